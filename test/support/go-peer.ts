import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { hasProgram } from './has-program.ts';

const FOLDER = fileURLToPath(new URL('../../.cache/peers/go/', import.meta.url));

/** A program of a Go module. */
export type GoPeer = {
  readonly name: string;
  readonly module: string;
  readonly version: string;
  readonly package: string;
};

/** The conformance suite of the distribution specification. */
export const CONFORMANCE: GoPeer = {
  name: 'oci-conformance',
  module: 'github.com/opencontainers/distribution-spec/conformance',
  version: 'v0.0.0-20260831232431-97274622c111',
  package: 'github.com/opencontainers/distribution-spec/conformance',
};

/** The command line client of the ORAS project. */
export const ORAS: GoPeer = {
  name: 'oras',
  module: 'oras.land/oras',
  version: 'v1.3.6',
  package: 'oras.land/oras/cmd/oras',
};

/** The certificate authority, the transparency log of API version 2 and the timestamp authority. */
export const SIGSTORE_SERVERS = {
  fulcio: {
    name: 'fulcio',
    module: 'github.com/sigstore/fulcio',
    version: 'v1.8.8',
    package: 'github.com/sigstore/fulcio',
  },
  rekor: {
    name: 'rekor-server',
    module: 'github.com/sigstore/rekor-tiles/v2',
    version: 'v2.3.0',
    package: 'github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix',
  },
  timestamps: {
    name: 'timestamp-server',
    module: 'github.com/sigstore/timestamp-authority/v2',
    version: 'v2.1.2',
    package: 'github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server',
  },
} as const satisfies Record<string, GoPeer>;

/** Path of a program, which is built when it is not there; or why it cannot be had. */
export async function goPeer(
  peer: GoPeer,
): Promise<{ readonly path: string } | { readonly missing: string }> {
  const path = join(FOLDER, `${peer.name}-${peer.version}`);
  if (existsSync(path)) return { path };
  if (!hasProgram('go')) return { missing: `${peer.name} needs Go, which is not installed` };
  try {
    await build(peer, path);
    return { path };
  } catch (thrown) {
    const reason = String((thrown as { stderr?: string }).stderr ?? thrown).trim();
    return { missing: `${peer.name} cannot be built: ${reason.split('\n').at(-1)}` };
  }
}

/** A module of its own pins the version without asking for a list of versions. */
async function build(peer: GoPeer, path: string): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'snapgate-go-'));
  try {
    const text = `module peers\n\ngo 1.24\n\nrequire ${peer.module} ${peer.version}\n`;
    await writeFile(join(work, 'go.mod'), text);
    const env = { ...process.env, GOFLAGS: '-mod=mod -modcacherw -buildvcs=false' };
    await promisify(execFile)('go', ['build', '-o', join(work, 'out'), peer.package], {
      ...{ cwd: work, env, maxBuffer: 2 ** 24 },
    });
    await mkdir(FOLDER, { recursive: true });
    // Complete or not at all, also when two tests build it at once.
    const { pid } = process;
    await promisify(execFile)('cp', [join(work, 'out'), `${path}.${pid}`]);
    await rename(`${path}.${pid}`, path);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

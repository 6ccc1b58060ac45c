import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { type Peer, peerPath } from './peers.ts';
import { type Ended, runProgramFile } from './run-program.ts';
import { writeSignaturePolicy } from './signature-policy.ts';

/** A program of somebody else that judges signatures. */
export type Verifier = {
  readonly title: string;
  readonly peer: Peer;
  /** Judges `HOST/REPO[:TAG|@DIGEST]` by a public key file; new files go into `folder`. */
  readonly verify: (reference: string, keyFile: string, folder: string) => Promise<Ended>;
};

/** Every verifier there is for tests. */
export const VERIFIERS: readonly Verifier[] = [
  { title: 'cosign 2', peer: 'cosign2', verify: cosign('cosign2') },
  { title: 'cosign 3', peer: 'cosign3', verify: cosign('cosign3') },
  { title: 'skopeo 1.18', peer: 'skopeo-trixie', verify: skopeo('skopeo-trixie') },
  { title: 'skopeo 1.22', peer: 'skopeo-sid', verify: skopeo('skopeo-sid') },
  { title: 'podman 5.4', peer: 'podman5', verify: podman },
];

function cosign(peer: Peer): Verifier['verify'] {
  return (reference, keyFile, folder) => {
    const args = ['verify', '--key', keyFile, '--insecure-ignore-tlog', reference];
    return runProgramFile(peerPath(peer), args, { env: { HOME: folder } });
  };
}

function skopeo(peer: Peer): Verifier['verify'] {
  return async (reference, keyFile, folder) => {
    const home = await mkdtemp(join(folder, 'skopeo-'));
    const host = reference.split('/')[0] ?? '';
    const policy = await writeSignaturePolicy(home, host, keyFile, 'matchRepoDigestOrExact');
    const copy = ['copy', '--src-tls-verify=false', `docker://${reference}`, `dir:${home}/image`];
    return runProgramFile(peerPath(peer), [...policy.skopeo, ...copy], { env: { HOME: home } });
  };
}

async function podman(reference: string, keyFile: string, folder: string): Promise<Ended> {
  const home = await mkdtemp(join(folder, 'podman-'));
  await writeSignaturePolicy(home, reference.split('/')[0] ?? '', keyFile);
  const storage = ['--root', `${home}/root`, '--runroot', `${home}/run`, '--storage-driver', 'vfs'];
  const pull = ['pull', '-q', '--tls-verify=false', reference];
  return runProgramFile(peerPath('podman5'), [...storage, ...pull], { env: { HOME: home } });
}

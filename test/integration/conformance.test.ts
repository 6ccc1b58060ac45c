import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { startGatewayProcess } from '../support/gateway.ts';
import { CONFORMANCE, goPeer } from '../support/go-peer.ts';
import { hasRegistry, startRegistry } from '../support/registry.ts';

/** What the suite prints about one registry. */
async function conformance(program: string, host: string, name: string): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'snapgate-conformance-'));
  const env = {
    ...{ PATH: process.env.PATH, HOME: dir, OCI_REGISTRY: host, OCI_TLS: 'disabled' },
    ...{ OCI_VERSION: '1.1', OCI_RESULTS_DIR: dir },
    ...{ OCI_REPO1: `${name}/one`, OCI_REPO2: `${name}/two` },
  };
  try {
    const options = { cwd: dir, env, maxBuffer: 2 ** 26 };
    const failed = (error: { stdout?: string }) => ({ stdout: error.stdout ?? '' });
    return (await promisify(execFile)(program, options).catch(failed)).stdout;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Failed tests with what was wrong, without what differs from one run to the next. */
function failures(report: string): string[] {
  const lines = report.split('\n').map((line) => line.trim());
  return lines
    .flatMap((line, i) => (line.endsWith(': FAIL') ? [`${line} ${lines[i + 1]}`] : []))
    .filter((line) => line.includes(': FAIL - '))
    .map((line) =>
      line.replace(/\b[0-9a-f]{64,128}\b/g, 'HEX').replace(/127\.0\.0\.1:\d+\/v2\/\w+/g, 'HOST'),
    );
}

const outcome = (report: string, title: string) =>
  new RegExp(`^ *${title}\\.*: +(\\w+)$`, 'm').exec(report)?.[1];

it('the gateway conforms where its registry does, and where it steps in', async (ctx) => {
  ctx.skip(!hasRegistry(), 'docker-registry is not installed');
  const peer = await goPeer(CONFORMANCE);
  if ('missing' in peer) return ctx.skip(peer.missing);
  const registry = await startRegistry();
  const gateway = await startGatewayProcess(registry.url);
  try {
    const direct = await conformance(peer.path, registry.host, 'direct');
    const through = await conformance(peer.path, gateway.host, 'through');
    expect(failures(direct).length).toBeGreaterThan(0);
    const known = new Set(failures(direct));
    expect(failures(through).filter((failure) => !known.has(failure))).toEqual([]);
    // This registry has no referrers API, and lists all its tags whatever part is asked for.
    for (const title of ['Referrers', 'Manifest put with subject']) {
      expect([outcome(direct, title), outcome(through, title)]).toEqual(['FAIL', 'Pass']);
    }
    const tagFailures = failures(through).filter((line) => line.includes('when last set'));
    expect(failures(direct).some((line) => line.includes('when last set'))).toBe(true);
    expect(tagFailures).toEqual([]);
    for (const title of ['Ping', 'Blob delete', 'Manifest delete', 'Image', 'Nested Index']) {
      expect([title, outcome(through, title)]).toEqual([title, 'Pass']);
    }
  } finally {
    await gateway.stop();
    await registry.stop();
  }
}, 600_000);

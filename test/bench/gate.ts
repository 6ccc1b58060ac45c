/**
 * What the gate adds to a manifest request whose decision is known, and how long a decision with
 * eight signatures takes. Run: `node test/bench/gate.ts [REQUESTS]`.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { formatTable } from '../../shared/cli/format.ts';
import { OCI_MANIFEST } from '../../shared/oci/media-types.ts';
import { parsePolicy } from '../../shared/policy/policy.ts';
import { verifyManifest } from '../../shared/policy/verify-manifest.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { startGatewayProcess } from '../support/gateway.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { startRegistry } from '../support/registry.ts';
import { makeBundle, makeKey, putBundle } from '../support/signatures.ts';
import { putTinyImage } from '../support/tiny-image.ts';

const [requests = 2000] = process.argv.slice(2).map(Number);
const keys = Array.from({ length: 8 }, () => makeKey());
const names = keys.map((_, i) => `k${i}`);
const policy = JSON.stringify({
  version: 1,
  keys: Object.fromEntries(keys.map(({ publicKey }, i) => [`k${i}`, { pem: publicKey.pem }])),
  rules: [{ repository: '*', images: { signers: names, threshold: 8 } }],
});

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** One request on every gateway in turn, so that what else the machine does meets all alike. */
async function latencies(urls: readonly string[]): Promise<number[][]> {
  const taken: number[][] = urls.map(() => []);
  for (let i = -100; i < requests; i += 1) {
    for (const [at, url] of urls.entries()) {
      const start = performance.now();
      const answer = await fetch(url, { headers: { accept: OCI_MANIFEST } });
      await answer.arrayBuffer();
      if (answer.status !== 200) throw new Error(`${url} answered ${answer.status}`);
      if (i >= 0) taken[at]?.push(performance.now() - start);
    }
  }
  return taken;
}

async function decision(): Promise<number> {
  const store = new MemoryStore();
  const { stored } = await putTinyImage(store, [{ a: '1' }]);
  for (const key of keys) await putBundle(store, stored, makeBundle(key, stored.digest));
  const read = parsePolicy(policy);
  const taken: number[] = [];
  for (let i = -20; i < 200; i += 1) {
    const start = performance.now();
    await verifyManifest({
      ...{ reader: store, repository: 'a.test/os', digest: stored.digest, kind: 'image' },
      ...{ policy: read, now: new Date() },
    });
    if (i >= 0) taken.push(performance.now() - start);
  }
  return median(taken);
}

const folder = await mkdtemp(join(tmpdir(), 'snapgate-gate-bench-'));
const file = join(folder, 'policy.json');
await writeFile(file, policy);
const registry = await startRegistry();
const { transport, close } = createTransport();
const baseUrl = new URL(registry.url);
const store = new Repository({ transport, baseUrl, repository: 'os/edge' });
const { stored } = await putTinyImage(store, [{ a: '1' }], { tag: 'v1' });
for (const key of keys) await putBundle(store, stored, makeBundle(key, stored.digest));
const config = { publicUrl: 'http://gate.test' };
const plain = await startGatewayProcess(registry.url, config);
const gated = await startGatewayProcess(registry.url, { ...config, gate: { policy: file } });
const path = '/v2/os/edge/manifests/v1';
const [without = [], gatedOnes = []] = await latencies([plain.url + path, gated.url + path]);
const [a, b] = [median(without), median(gatedOnes)];
const ms = (value: number) => `${value.toFixed(3)} ms`;
process.stdout.write(
  formatTable(
    ['what', 'median'],
    [
      ['manifest through a gateway without a gate', ms(a)],
      ['manifest through a gateway with a gate, decision known', ms(b)],
      ['added by the gate', ms(b - a)],
      ['decision with eight signatures, warm, signatures in memory', ms(await decision())],
    ],
  ),
);
await Promise.all([plain.stop(), gated.stop()]);
await close();
await registry.stop();
await rm(folder, { recursive: true, force: true });

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../../host-client/config.ts';
import { Line } from '../../../host-client/net/gateway-source.ts';
import { sha256 } from '../../../shared/digest.ts';

const blob = Buffer.alloc(100_000, 7);
let server: Server;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'line-'));
  server = createServer((request, response) => {
    if (request.url?.includes('/manifests/')) response.writeHead(200).end();
    else response.end(blob);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  server.close();
  await rm(folder, { recursive: true });
});

async function openLine(limits: object) {
  const { port } = server.address() as AddressInfo;
  const config = await loadConfig({
    ...{ root: folder, graphRoot: folder, runRoot: folder, stateDir: folder },
    ...{ gateways: [`http://127.0.0.1:${port}`], repository: 'os' },
  });
  return new Line({ ...config, line: { ...config.line, ...limits } }, () => {});
}

async function fetchBlob(line: Line): Promise<number> {
  const { repository } = await line.connect();
  let size = 0;
  const wanted = { digest: sha256(blob), size: blob.length };
  for await (const chunk of repository.openBlob(wanted)) size += chunk.length;
  return size;
}

describe('the line', () => {
  it('counts what comes', async () => {
    const line = await openLine({});
    expect(await fetchBlob(line)).toBe(blob.length);
    expect(line.received).toBe(blob.length);
    line.close();
  });

  it("ends when the day's bytes are used up, and stays so for the next process", async () => {
    const line = await openLine({ bytesPerDay: 50_000 });
    await expect(fetchBlob(line)).rejects.toMatchObject({ code: 'BUDGET_SPENT' });
    line.close();
    const saved = JSON.parse(await readFile(join(folder, 'budget.json'), 'utf8'));
    expect(saved.bytes).toBeGreaterThan(50_000);
    const again = await openLine({ bytesPerDay: 50_000 });
    await expect(again.connect()).rejects.toMatchObject({ code: 'BUDGET_SPENT' });
    const larger = await openLine({ bytesPerDay: 500_000 });
    expect(await fetchBlob(larger)).toBe(blob.length);
    larger.close();
  });
});

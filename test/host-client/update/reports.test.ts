import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UpdateReports } from '../../../host-client/update/reports.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { MAX_REPORTS, type SentReport } from '../../../shared/update-reports.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const ATTEMPT = {
  time: '2026-01-02T03:04:05.000Z',
  result: 'nothing',
  bytes: 0,
  seconds: 1,
} as const;

async function scene(ctx: Parameters<typeof temporaryFolder>[0], reports: object) {
  const folder = await temporaryFolder(ctx);
  await mkdir(join(folder, 'etc'));
  await writeFile(join(folder, 'etc/machine-id'), '0123456789abcdef0123456789abcdef\n');
  const notices: string[] = [];
  const config = { root: folder, stateDir: folder, tag: 'stable' };
  const settings = { send: true, machineId: true, ...reports };
  const teller = new UpdateReports({ ...config, reports: settings }, (text) => notices.push(text));
  const sent: SentReport[][] = [];
  const api = { reportUpdates: async (all: readonly SentReport[]) => void sent.push([...all]) };
  return { folder, teller, notices, sent, api };
}

describe('reports of updates', () => {
  it('are nothing unless the owner wants them', async (ctx) => {
    const { folder, teller, sent, api } = await scene(ctx, { send: false });
    await teller.tell(ATTEMPT, api);
    expect([sent, await readdir(folder)]).toEqual([[], ['etc']]);
  });

  it('name the machine by a digest, or not at all', async (ctx) => {
    const { teller, sent, api } = await scene(ctx, {});
    await teller.tell(ATTEMPT, api);
    const nameless = await scene(ctx, { machineId: false });
    await nameless.teller.tell(ATTEMPT, nameless.api);
    expect(sent[0]?.[0]).toMatchObject({ ...ATTEMPT, machine: expect.stringMatching(/^\w{32}$/) });
    expect(JSON.stringify(sent)).not.toContain('0123456789abcdef0123456789abcdef');
    expect(nameless.sent[0]?.[0]).not.toHaveProperty('machine');
  });

  it('wait while nobody can be told, the newest if there are many', async (ctx) => {
    const { teller, sent, api, notices } = await scene(ctx, {});
    for (let i = 0; i < MAX_REPORTS + 5; i += 1) {
      await teller.tell({ ...ATTEMPT, bytes: i }, undefined);
    }
    const down = () => Promise.reject(new SnapgateError('UPSTREAM_UNREACHABLE', 'gone'));
    await teller.tell({ ...ATTEMPT, bytes: 100 }, { reportUpdates: down });
    expect(notices).toEqual(['not reported yet: gone']);
    await teller.tell({ ...ATTEMPT, bytes: 101 }, api);
    expect(sent[0]).toHaveLength(MAX_REPORTS);
    expect(sent[0]?.slice(-2).map(({ bytes }) => bytes)).toEqual([100, 101]);
    expect(new Set(sent[0]?.map(({ id }) => id)).size).toBe(MAX_REPORTS);
    await teller.tell(ATTEMPT, api);
    expect(sent[1]).toHaveLength(1);
  });
});

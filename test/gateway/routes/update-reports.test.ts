import { describe, expect, it } from 'vitest';
import { ClientLimits } from '../../../gateway/access/client-limits.ts';
import type { ClientAccess } from '../../../gateway/routes/api-request.ts';
import { Metrics } from '../../../gateway/routes/metrics.ts';
import { updateReportRoutes } from '../../../gateway/routes/update-reports.ts';
import { sha256 } from '../../../shared/digest.ts';
import type { LogFields } from '../../../shared/log.ts';
import { MemoryStore } from '../../support/memory-store.ts';

const REPORT = {
  ...{ version: 1, id: '0123456789abcdef', time: '2026-01-02T03:04:05.000Z', client: '0.1.0' },
  ...{ machine: 'a'.repeat(32), tag: 'stable', to: sha256('to'), result: 'updated' },
  ...{ method: 'full', bytes: 1234, fullBytes: 1234, seconds: 2.5 },
  fallbackReason: 'no delta is made\n'.repeat(100),
};

/** A gateway that lets `os/image` be pulled by everybody, and nothing else. */
function scene() {
  const lines: { message: string; fields: LogFields }[] = [];
  const metrics = new Metrics();
  const clientAccess: ClientAccess = {
    async open(_request, repository) {
      if (repository === 'os/image') return { reader: new MemoryStore() };
      return { refusal: new Response('{}', { status: 403 }) };
    },
  };
  const app = updateReportRoutes({
    ...{ clientAccess, metrics, originOf: () => 'http://gateway.test' },
    log: (_level, message, fields = {}) => lines.push({ message, fields }),
    updateReportLimits: new ClientLimits({ requestsPerSecond: 0.001, burst: 3 }),
  });
  app.onError((thrown, c) => c.json({ code: (thrown as { code?: string }).code }, 400));
  const post = async (body: unknown, name = 'os/image') =>
    app.request(`/v2/${name}/_snapgate/reports`, { method: 'POST', body: JSON.stringify(body) });
  return { post, lines, metrics };
}

describe('reports of updates', () => {
  it('are counted and written to the log, each once', async () => {
    const { post, lines, metrics } = scene();
    expect((await post({ reports: [REPORT, { ...REPORT, id: 'f'.repeat(16) }] })).status).toBe(202);
    expect((await post({ reports: [REPORT] })).status).toBe(202);
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatchObject({
      message: 'update reported',
      fields: { repository: 'os/image', machine: REPORT.machine, to: REPORT.to, bytes: 1234 },
    });
    expect(String(lines[0]?.fields.fallbackReason)).toHaveLength(300);
    const text = await metrics.text();
    const labels = '{result="updated",method="full",error="none"}';
    expect(text).toContain(`snapgate_update_reports_total${labels} 2`);
    expect(text).toContain('snapgate_reported_bytes_total{method="full"} 2468');
    expect(text).toContain('snapgate_reported_fallbacks_total 2');
  });

  it('come from clients that may pull only', async () => {
    const { post, lines } = scene();
    expect((await post({ reports: [REPORT] }, 'secret/image')).status).toBe(403);
    expect(lines).toEqual([]);
  });

  it.each([
    ['that say more than they may', { reports: [{ ...REPORT, hostname: 'attic' }] }],
    ['with an error that is none', { reports: [{ ...REPORT, error: 'x="1"} 1' }] }],
    ['of negative size', { reports: [{ ...REPORT, bytes: -1 }] }],
    ['of no time', { reports: [{ ...REPORT, seconds: null }] }],
    ['without end', { reports: Array(33).fill(REPORT) }],
    ['that are none', { reports: [] }],
    ['that are large', { reports: [{ ...REPORT, fallbackReason: 'x'.repeat(70_000) }] }],
  ])('%s are refused', async (_, body) => {
    const { post, lines } = scene();
    expect((await post(body)).status).toBe(400);
    expect(lines).toEqual([]);
  });

  it('come at a limited rate from each client', async () => {
    const { post } = scene();
    for (const _ of [1, 2, 3]) expect((await post({ reports: [REPORT] })).status).toBe(202);
    expect(await (await post({ reports: [REPORT] })).json()).toEqual({ code: 'TOOMANYREQUESTS' });
  });
});

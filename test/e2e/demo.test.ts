import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { btrfsSkipReason } from '../support/btrfs.ts';

const DEMO = fileURLToPath(new URL('../../deploy/demo/run.ts', import.meta.url));
const PROGRAMS = ['podman', 'buildah', 'skopeo', 'umoci', 'mmdebstrap', 'docker-registry', 'runc'];

type Cost = { line: number; written: number; seconds: number };
type Summary = {
  images: { v1: string; v2: string; fullBytes: number };
  update: Cost;
  podman: Cost;
  report: { method: string; from: string; to: string; bytesDownloaded: number };
  refused: {
    unsigned: { code: string };
    wrongKey: { code: string };
    corrupted: { reason: string; method?: string };
  };
};

function skipReason(): string | undefined {
  const folders = `${process.env.PATH}:/usr/sbin:/sbin`.split(':');
  const has = (program: string) =>
    folders.some((folder) => {
      try {
        return readdirSync(folder).includes(program);
      } catch {
        return false;
      }
    });
  const missing = PROGRAMS.filter((program) => !has(program));
  if (missing.length > 0) return `needs ${missing.join(', ')}`;
  return btrfsSkipReason();
}

const reason = skipReason();

describe('the demo', { timeout: 1_800_000 }, () => {
  let stage = '';
  let summary: Summary | undefined;

  beforeAll(async () => {
    if (reason !== undefined) return;
    stage = await mkdtemp('/var/tmp/snapgate-demo-test-');
    const { stdout } = await runDemo(stage);
    summary = JSON.parse(stdout) as Summary;
  }, 1_800_000);
  afterAll(async () => {
    if (stage !== '') await rm(stage, { recursive: true, force: true });
  });

  it('updates the machine by delta, for fewer bytes than Podman', (ctx) => {
    ctx.skip(reason !== undefined, reason);
    expect(summary?.report).toMatchObject({ method: 'delta' });
    const { update, podman, images } = summary as Summary;
    expect(update.line).toBeLessThan(images.fullBytes / 4);
    expect(update.line).toBeLessThan(podman.line / 4);
    expect(update.written).toBeLessThan(podman.written / 2);
    expect(update.line).toBeGreaterThanOrEqual(summary?.report.bytesDownloaded ?? Infinity);
  });

  it('shows what is refused, and why', (ctx) => {
    ctx.skip(reason !== undefined, reason);
    expect(summary?.refused).toMatchObject({
      unsigned: { code: 'SIGNATURE_MISSING' },
      wrongKey: { code: 'SIGNATURE_INVALID' },
      corrupted: { reason: expect.stringContaining('DIGEST_INVALID') },
    });
    expect(summary?.refused.corrupted.method).toBe('full');
  });

  it('leaves nothing behind', (ctx) => {
    ctx.skip(reason !== undefined, reason);
    expect(readdirSync(stage)).toEqual([]);
    expect(readFileSync('/proc/mounts', 'utf8')).not.toContain(stage);
  });
});

function runDemo(stage: string): Promise<{ stdout: string }> {
  const env = { ...process.env, TMPDIR: stage };
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [DEMO, '--small', '--json'], { env }, (error, stdout, stderr) => {
      if (error === null) resolve({ stdout });
      else reject(new Error(`the demo failed: ${error.message}\n${stderr}\n${stdout}`));
    });
  });
}

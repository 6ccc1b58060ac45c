import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A new folder that goes when the test ends. */
export async function temporaryFolder(ctx: {
  onTestFinished(done: () => Promise<void>): void;
}): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'snapgate-test-'));
  ctx.onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

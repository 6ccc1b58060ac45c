import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FileLock } from '../../../host-client/system/file-lock.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const busy = () => new SnapgateError('STORAGE_BUSY', 'busy');

describe('a lock on a file', () => {
  it('is held by one at a time', async (ctx) => {
    const path = join(await temporaryFolder(ctx), 'lock');
    const first = await FileLock.acquire(path, { timeoutMs: 0, busy });
    await expect(FileLock.acquire(path, { timeoutMs: 0, busy })).rejects.toThrow('busy');
    const waiting = FileLock.acquire(path, { timeoutMs: 60_000, busy });
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    using second = await waiting;
    second.write(Buffer.from('token'));
    expect(readFileSync(path, 'utf8')).toBe('token');
  });

  it('is waited for no longer than is wanted', async (ctx) => {
    const path = join(await temporaryFolder(ctx), 'lock');
    using _held = await FileLock.acquire(path, { timeoutMs: 0, busy });
    const abort = new AbortController();
    const { signal } = abort;
    const waiting = FileLock.acquire(path, { timeoutMs: 60_000, busy, signal });
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('says where no lock can be', async (ctx) => {
    const path = join(await temporaryFolder(ctx), 'none/lock');
    await expect(FileLock.acquire(path, { timeoutMs: 0, busy })).rejects.toMatchObject({
      code: 'ENOENT',
    });
  });
});

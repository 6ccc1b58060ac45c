import { describe, expect, it } from 'vitest';
import { RunningProgram, run } from '../../../host-client/system/run.ts';

describe('run', () => {
  it('passes arguments as they are and gives back what was printed', async () => {
    const { stdout } = await run('printf', ['%s|', 'a b', '$HOME', '*']);
    expect(stdout).toBe('a b|$HOME|*|');
  });

  it('says what failed, how, and what it said last', async () => {
    await expect(run('sh', ['-c', 'echo broken >&2; exit 3'])).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      message: expect.stringMatching(/^sh.*exit status 3\): broken$/),
    });
    await expect(run('sh', ['-c', 'kill -9 $$'])).rejects.toMatchObject({
      message: expect.stringContaining('ended by SIGKILL'),
    });
  });

  it('knows a full disk from any other failure', async () => {
    const script = 'echo "write x: No space left on device" >&2; exit 1';
    await expect(run('sh', ['-c', script])).rejects.toMatchObject({ code: 'NO_SPACE' });
  });

  it('names a program that is missing', async () => {
    await expect(run('no-such-program', ['x'])).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      message: 'the program no-such-program is not installed',
    });
  });

  it('keeps the end alone of a long complaint', async () => {
    const script = 'head -c 100000 /dev/zero | tr "\\0" x >&2; echo last >&2; exit 1';
    const error = await run('sh', ['-c', script]).catch((thrown) => thrown as Error);
    expect((error as Error).message.length).toBeLessThan(20_000);
    expect((error as Error).message).toMatch(/last$/);
  });

  it('ends the program when it is cancelled', async () => {
    const abort = new AbortController();
    const running = run('sleep', ['1000'], { signal: abort.signal });
    abort.abort();
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(run('sleep', ['1000'], { signal: abort.signal })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  });
});

describe('a program that reads a stream', () => {
  it('gets all bytes in order', async () => {
    const running = new RunningProgram('sha256sum', []);
    for (let i = 0; i < 50; i += 1) await running.write(Buffer.alloc(100_000, i));
    expect((await running.end()).stdout).toMatch(/^[0-9a-f]{64}/);
  });

  it('stops the writer when it fails early', async () => {
    const running = new RunningProgram('sh', ['-c', 'head -c 10 >/dev/null; echo bad >&2; exit 2']);
    const writing = async () => {
      for (;;) await running.write(Buffer.alloc(200_000));
    };
    await expect(writing()).rejects.toMatchObject({ message: expect.stringContaining('bad') });
    await expect(running.end()).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
  });

  it('stops the writer when it ends well before the stream does', async () => {
    const running = new RunningProgram('true', []);
    const writing = async () => {
      for (;;) await running.write(Buffer.alloc(200_000));
    };
    await expect(writing()).rejects.toMatchObject({
      message: 'true ended before its input did',
    });
  });
});

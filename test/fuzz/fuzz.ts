import { Worker } from 'node:worker_threads';
import { keep } from './corpus.ts';
import type { FuzzMessage, FuzzTask } from './thread.ts';

/** How long a thread may be silent, in milliseconds: one input may take ten seconds. */
const SILENT_MS = 60_000;
const MAX_HEAP_MIB = 1024;

/** What feeding a parser came to. */
export type FuzzResult = {
  readonly inputs: number;
  /** In how many ways reading ended. */
  readonly ends: number;
  /** What went wrong, and the file that makes it happen again. */
  readonly failure?: { readonly message: string; readonly file: string };
};

/**
 * Feeds one parser with all that was kept and then with changes of it, for so many seconds. What
 * fails is kept, as small as it gets; `keepNew` keeps also what ends in a way that nothing did before.
 */
export function fuzz(options: {
  readonly name: string;
  readonly seconds: number;
  readonly seed: number;
  readonly keepNew?: boolean;
}): Promise<FuzzResult> {
  const { name, seconds, seed, keepNew } = options;
  const current = new SharedArrayBuffer(4 + 64 * 1024);
  const workerData: FuzzTask = { name, seconds, seed, current };
  const worker = new Worker(new URL('./thread.ts', import.meta.url), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
  });
  const failed = (message: string, input: Uint8Array): FuzzResult => {
    const file = keep(name, 'failed', input);
    return { inputs: 0, ends: 0, failure: { message, file } };
  };
  const underWay = () => {
    const shared = Buffer.from(current);
    return Buffer.from(shared.subarray(4, 4 + shared.readUInt32LE()));
  };
  return new Promise<FuzzResult>((resolve) => {
    let isOver = false;
    const silent = () => {
      isOver = true;
      resolve(failed('it hangs', underWay()));
    };
    let timer = setTimeout(silent, SILENT_MS);
    worker.on('message', (message: FuzzMessage) => {
      isOver ||= message.kind === 'failed' || message.kind === 'done';
      clearTimeout(timer);
      timer = setTimeout(silent, SILENT_MS);
      if (message.kind === 'new' && keepNew) keep(name, 'new', message.input);
      if (message.kind === 'failed') resolve(failed(message.message, message.input));
      if (message.kind === 'done') resolve(message);
    });
    worker.once('error', (error) => {
      isOver = true;
      resolve(failed(String(error.stack ?? error), underWay()));
    });
    worker.once('exit', () => {
      clearTimeout(timer);
      // After any other message this is its usual end.
      if (!isOver) resolve(failed('the thread ended', underWay()));
    });
  }).finally(() => worker.terminate());
}

import { Worker } from 'node:worker_threads';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { YOUNG_GENERATION_MB } from '../delta/keep-memory-small.ts';
import { threadError } from '../delta/worker-pool.ts';
import type { MadeDelta, MakeDelta } from './delta-jobs.ts';
import type { DeltaThreadTask, FromDeltaThread, ToDeltaThread } from './delta-thread-messages.ts';

/** How long a thread may take to stop by itself, in milliseconds. */
const STOP_MS = 5000;

export type MakeDeltaOptions = Omit<
  DeltaThreadTask,
  'request' | 'sourceCredentials' | 'targetCredentials'
> & {
  /** The gateway's own credentials for a repository. */
  readonly credentials: (repository: string) => DeltaThreadTask['sourceCredentials'];
  /** Signs a delta whose blobs are stored, and stores its manifest. */
  readonly publish: (repository: string, manifest: StoredManifest) => Promise<void>;
};

/** Makes deltas in worker threads, one for each. */
export function makeDeltaInThread({
  credentials,
  publish,
  ...common
}: MakeDeltaOptions): MakeDelta {
  return async (request, { signal, onProgress }) => {
    const workerData: DeltaThreadTask = {
      ...common,
      request,
      sourceCredentials: credentials(request.sourceRepository),
      targetCredentials: credentials(request.repository),
    };
    const worker = new Worker(new URL('./delta-thread.ts', import.meta.url), {
      workerData,
      resourceLimits: {
        maxOldGenerationSizeMb: common.memoryBytes / 2 ** 20,
        maxYoungGenerationSizeMb: YOUNG_GENERATION_MB,
      },
    });
    const tell = (message: ToDeltaThread) => worker.postMessage(message);
    const onAbort = () => {
      tell({ kind: 'abort' });
      setTimeout(() => void worker.terminate(), STOP_MS).unref();
    };
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    try {
      return await new Promise<MadeDelta>((resolve, reject) => {
        worker.on('message', (message: FromDeltaThread) => {
          if (message.kind === 'progress') onProgress(message.fraction);
          if (message.kind === 'done') resolve(message.made);
          if (message.kind === 'failed') {
            const { code, message: text, ...details } = message.error;
            reject(new SnapgateError(code, text, details));
          }
          if (message.kind === 'publish') {
            publish(request.repository, message.manifest).then(
              () => tell({ kind: 'published' }),
              (thrown) => tell({ kind: 'unpublished', error: toSnapgateError(thrown).toJSON() }),
            );
          }
        });
        worker.once('error', (error) => reject(threadError(error)));
        worker.once('exit', () => reject(new SnapgateError('JOB_FAILED', 'the thread ended')));
      });
    } finally {
      signal.removeEventListener('abort', onAbort);
      await worker.terminate();
    }
  };
}

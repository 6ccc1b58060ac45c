import type { Digest } from '../../shared/digest.ts';
import { sha256 } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { DeltaJob } from '../../shared/plan.ts';
import type { DeltaKey, DeltaState } from '../plan/planner.ts';
import type { Catalogue } from '../store/catalogue.ts';
import type { JobRecord } from '../store/facts.ts';

/** A delta to be made: which one, and where its source stands. */
export type DeltaJobRequest = DeltaKey & {
  readonly sourceRepository: string;
  readonly sourceManifest: Digest;
  /** Bytes of the layers that it is for, as they travel whole. */
  readonly bytes: number;
};

/** Where a finished delta stands: digest and size of its manifest, in the target's repository. */
export type MadeDelta = { readonly digest: Digest; readonly size: number };

/** Makes and publishes one delta. `onProgress` takes 0 to 1. Rejects soon after `signal` aborts. */
export type MakeDelta = (
  request: DeltaJobRequest,
  context: { readonly signal: AbortSignal; readonly onProgress: (fraction: number) => void },
) => Promise<MadeDelta>;

/** Told what happens; counters and gauges stand elsewhere. */
export type JobObserver = {
  /** Called after every change with the numbers of jobs that wait and that run. */
  readonly onQueue?: (waiting: number, running: number) => void;
  readonly onFinished?: (request: DeltaJobRequest, outcome: string, seconds: number) => void;
};

export type DeltaJobsOptions = {
  readonly make: MakeDelta;
  readonly catalogue: Catalogue;
  /** Throws for a delta that is not to be made here at all. */
  readonly accept?: (request: Pick<DeltaKey, 'repository'>) => void;
  /** Most deltas made at once. */
  readonly concurrency: number;
  /** Most jobs that wait; one more is refused with TOOMANYREQUESTS. */
  readonly maxWaiting: number;
  /** How long a refusal or failure is answered without trying again, in milliseconds. */
  readonly rememberFailureMs?: number;
  readonly observer?: JobObserver;
  readonly now?: () => number;
};

type Active = {
  readonly id: string;
  readonly request: DeltaJobRequest;
  readonly abort: AbortController;
  startedAt: number | undefined;
  progress: number;
  readonly finished: Promise<void>;
  start(): void;
};

const REMEMBER_FAILURE_MS = 10 * 60 * 1000;
/** From so much on, progress tells how long the rest takes. */
const KNOWN_PROGRESS = 0.05;
/** What making took on two busy cores: 267 s for layers of 219 MB. */
const FIRST_SECONDS_PER_BYTE = 267 / 219e6;
/** Jobs for fewer bytes say nothing about the rate; each of the others counts for so much of it. */
const RATE_MIN_BYTES = 1e6;
const RATE_SHARE = 0.3;

/**
 * The deltas being made: a bounded queue in which requests for the same delta share one
 * computation. How a job ended is kept in the catalogue; jobs that a stop interrupts are forgotten,
 * and made when they are asked for again.
 */
export class DeltaJobs {
  readonly #options: DeltaJobsOptions;
  readonly #now: () => number;
  readonly #active = new Map<string, Active>();
  readonly #waiting: Active[] = [];
  #closed = false;
  #secondsPerByte = FIRST_SECONDS_PER_BYTE;

  constructor(options: DeltaJobsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** What became of a delta that is not in the registry. */
  state(key: DeltaKey, bytes: number): DeltaState {
    const id = jobId(key);
    const active = this.#active.get(id);
    if (active !== undefined) return { state: 'computing', make: this.#secondsLeft(active) };
    const unwanted = this.#unwanted(key);
    if (unwanted !== undefined) return { state: 'refused', reason: failureText(unwanted) };
    const failed = this.#rememberedFailure(id);
    if (failed?.error === undefined) {
      return { state: 'absent', make: this.#secondsUntilFree() + bytes * this.#secondsPerByte };
    }
    return { state: 'refused', reason: `${failed.error.code}: ${failed.error.message}` };
  }

  /**
   * Asks for a delta that is not in the registry: joins the job that makes it, answers a failure
   * that is still remembered, or starts a job. Throws TOOMANYREQUESTS when the queue is full.
   */
  submit(request: DeltaJobRequest): DeltaJob {
    const unwanted = this.#unwanted(request);
    if (unwanted !== undefined) throw unwanted;
    const id = jobId(request);
    const running = this.#active.get(id);
    if (running !== undefined) return describeActive(running);
    const failed = this.#rememberedFailure(id);
    if (failed !== undefined) return describeRecord(failed);
    if (this.#closed) throw new SnapgateError('CANCELLED', 'the gateway is stopping');
    const isFree = this.#runningCount() < this.#options.concurrency;
    if (!isFree && this.#waiting.length >= this.#options.maxWaiting) {
      throw new SnapgateError('TOOMANYREQUESTS', 'too many deltas are waiting to be made', {
        hint: 'Ask again later, or pull the image as it is.',
        retryAfter: 30,
      });
    }
    this.#options.catalogue.removeJob(id);
    const job = this.#enqueue(id, request);
    this.#startNext();
    return describeActive(job);
  }

  /** A job of a repository and what it leads to. Throws JOB_UNKNOWN. */
  find(repository: string, id: string): { readonly job: DeltaJob; readonly target: Digest } {
    const active = this.#active.get(id);
    if (active?.request.repository === repository) {
      return { job: describeActive(active), target: active.request.target };
    }
    const record = this.#options.catalogue.job(id);
    if (record?.repository === repository) {
      return { job: describeRecord(record), target: record.target };
    }
    throw new SnapgateError('JOB_UNKNOWN', `no such job: ${id.slice(0, 64)}`, {
      hint: 'Ask for the delta again; jobs do not outlast a restart of the gateway.',
    });
  }

  /** Seconds after which asking again makes sense. */
  retryAfter(job: DeltaJob): number {
    const active = this.#active.get(job.id);
    if (active?.startedAt === undefined) return 5;
    if (active.progress < KNOWN_PROGRESS) return 2;
    return Math.min(30, Math.max(1, Math.ceil(this.#secondsToEnd(active))));
  }

  /** Estimates the seconds until a job has ended, those that it waits included. */
  #secondsLeft(job: Active): number {
    const before = job.startedAt === undefined ? this.#secondsUntilFree(job) : 0;
    return before + this.#secondsToEnd(job);
  }

  /** Estimates how long a job still runs, or runs in all when it has not begun. */
  #secondsToEnd({ startedAt, progress, request }: Active): number {
    const all = request.bytes * this.#secondsPerByte;
    if (startedAt === undefined || progress < KNOWN_PROGRESS) return all;
    return (((this.#now() - startedAt) / 1000) * (1 - progress)) / progress;
  }

  /** Estimates how long a job waits that comes after all there are, or is one of those that wait. */
  #secondsUntilFree(job?: Active): number {
    const { concurrency } = this.#options;
    const place = job === undefined ? this.#waiting.length : this.#waiting.indexOf(job);
    if (this.#runningCount() < concurrency) return 0;
    const running = [...this.#active.values()].filter((one) => one.startedAt !== undefined);
    const ahead = [...running, ...this.#waiting.slice(0, Math.max(0, place))];
    return ahead.reduce((sum, one) => sum + this.#secondsToEnd(one), 0) / concurrency;
  }

  /** Cancels everything and waits until it has stopped. */
  async close(): Promise<void> {
    this.#closed = true;
    const jobs = [...this.#active.values()];
    for (const job of jobs) job.abort.abort();
    for (const job of this.#waiting.splice(0)) job.start();
    await Promise.all(jobs.map((job) => job.finished));
  }

  #runningCount(): number {
    return this.#active.size - this.#waiting.length;
  }

  #unwanted(key: DeltaKey): SnapgateError | undefined {
    try {
      this.#options.accept?.(key);
      return undefined;
    } catch (thrown) {
      return toSnapgateError(thrown);
    }
  }

  #rememberedFailure(id: string): JobRecord | undefined {
    const record = this.#options.catalogue.job(id);
    if (record?.error === undefined) return undefined;
    const memory = this.#options.rememberFailureMs ?? REMEMBER_FAILURE_MS;
    return this.#now() - record.finishedAt < memory ? record : undefined;
  }

  #enqueue(id: string, request: DeltaJobRequest): Active {
    const { promise: started, resolve: start } = Promise.withResolvers<void>();
    const abort = new AbortController();
    const job: Active = {
      ...{ id, request, abort, startedAt: undefined, progress: 0, start },
      finished: started.then(() => this.#run(job)),
    };
    this.#active.set(id, job);
    this.#waiting.push(job);
    return job;
  }

  #startNext(): void {
    while (this.#waiting.length > 0 && this.#runningCount() < this.#options.concurrency) {
      this.#waiting.shift()?.start();
    }
    this.#options.observer?.onQueue?.(this.#waiting.length, this.#runningCount());
  }

  async #run(job: Active): Promise<void> {
    const startedAt = this.#now();
    job.startedAt = startedAt;
    const { signal } = job.abort;
    const onProgress = (fraction: number) => {
      job.progress = Math.min(1, Math.max(job.progress, fraction));
    };
    let outcome = 'made';
    try {
      signal.throwIfAborted();
      const artifact = await this.#options.make(job.request, { signal, onProgress });
      this.#learnRate(job.request.bytes, (this.#now() - startedAt) / 1000);
      this.#record(job, { artifact: { digest: artifact.digest, size: artifact.size } });
    } catch (thrown) {
      const error = signal.aborted ? cancelled(thrown) : toSnapgateError(thrown);
      outcome = error.code;
      if (error.code !== 'CANCELLED') {
        this.#record(job, { error: { code: error.code, message: failureText(error) } });
      }
    } finally {
      this.#active.delete(job.id);
      const seconds = (this.#now() - startedAt) / 1000;
      this.#options.observer?.onFinished?.(job.request, outcome, seconds);
      this.#startNext();
    }
  }

  /** The last few jobs count most: machines differ, and so does what else they do. */
  #learnRate(bytes: number, seconds: number): void {
    if (bytes < RATE_MIN_BYTES) return;
    this.#secondsPerByte += (seconds / bytes - this.#secondsPerByte) * RATE_SHARE;
  }

  #record(job: Active, end: Pick<JobRecord, 'artifact' | 'error'>): void {
    const { repository, target, sourceConfig, format } = job.request;
    this.#options.catalogue.addJob({
      ...{ id: job.id, repository, target, sourceConfig, format },
      ...{ finishedAt: this.#now(), ...end },
    });
  }
}

function cancelled(cause: unknown): SnapgateError {
  return new SnapgateError('CANCELLED', 'the gateway is stopping', { cause });
}

function failureText(error: SnapgateError): string {
  return error.where === undefined ? error.message : `${error.message} (${error.where})`;
}

/** The same delta has the same id everywhere and for ever. */
function jobId({ repository, sourceConfig, target, format }: DeltaKey): string {
  const key = sha256(JSON.stringify([repository, sourceConfig, target, format]));
  return key.slice('sha256:'.length, 'sha256:'.length + 32);
}

function describeActive({ id, startedAt, progress }: Active): DeltaJob {
  return { id, state: startedAt === undefined ? 'waiting' : 'running', progress };
}

function describeRecord({ id, artifact, error }: JobRecord): DeltaJob {
  if (artifact !== undefined) return { id, state: 'done', progress: 1, artifact };
  return { id, state: 'failed', ...(error === undefined ? {} : { error }) };
}

/** The answer for a delta that stood in the registry before anyone asked. */
export function finishedJob(key: DeltaKey, artifact: MadeDelta): DeltaJob {
  return { id: jobId(key), state: 'done', progress: 1, artifact };
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { printable } from '../../shared/signing/verdict.ts';
import type { JobAnswer } from '../net/gateway-api.ts';
import type { ChooseContext, OfferedDelta } from './choose-way.ts';
import type { Target } from './target.ts';

/** Has a delta made. Throws JOB_FAILED when that fails or takes longer than configured. */
export async function waitForDelta(
  context: ChooseContext,
  target: Target,
  offer: OfferedDelta,
): Promise<Digest> {
  const { api, config, events, signal } = context;
  const pause = context.pause ?? pauseFor;
  const longest = config.waits.deltaSeconds;
  if (api === undefined || longest === 0) throw notMade('it is not made yet');
  const request = {
    source: offer.held.config,
    target: target.manifest.digest,
    ...(offer.format === undefined ? {} : { format: offer.format }),
  };
  events.step('wait', 'until the gateway has made the delta');
  let answer: JobAnswer = await api.requestDelta(request, signal);
  for (let waited = 0; ; ) {
    const { job, retryAfter } = answer;
    if (job.artifact !== undefined) return job.artifact.digest;
    if (job.state === 'failed' || job.state === 'done') {
      throw notMade(
        job.error === undefined ? 'it failed' : `${job.error.code}: ${job.error.message}`,
      );
    }
    events.progress(Math.round((job.progress ?? 0) * 100), 100, 'parts');
    const seconds = Math.min(60, Math.max(1, retryAfter));
    if (waited + seconds > longest) throw notMade(`not within ${longest} s`);
    await pause(seconds * 1000, signal);
    waited += seconds;
    answer = await api.deltaJob(job.id, signal);
  }
}

function notMade(why: string): SnapgateError {
  return new SnapgateError('JOB_FAILED', `the gateway made no delta: ${printable(why, 300)}`);
}

async function pauseFor(milliseconds: number, signal?: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, signal === undefined ? {} : { signal });
}

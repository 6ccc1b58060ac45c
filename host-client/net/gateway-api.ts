import * as v from 'valibot';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import {
  type DeltaJob,
  type DeltaRequest,
  deltaJobSchema,
  type EncoderReport,
  type Plan,
  type PlanRequest,
  planSchema,
} from '../../shared/plan.ts';
import type { Repository } from '../../shared/registry/repository.ts';
import { retryAfterSeconds } from '../../shared/registry/repository-requests.ts';
import { type HttpResponse, readBody } from '../../shared/registry/transport.ts';
import type { SentReport } from '../../shared/update-reports.ts';

/** Largest answer read, in bytes: 64 ways of 512 layers each are well below. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

/** A delta being made, and after how many seconds to ask again. */
export type JobAnswer = { readonly job: DeltaJob; readonly retryAfter: number };

/** What a gateway can do beyond a registry. Nothing that it says is trusted. */
export type GatewayApi = {
  /** Asks for the ways to an image. Undefined from a registry that is no gateway. */
  plan(request: PlanRequest, signal?: AbortSignal): Promise<Plan | undefined>;
  /** Asks for a delta to be made. */
  requestDelta(request: DeltaRequest, signal?: AbortSignal): Promise<JobAnswer>;
  /** Asks how far a delta is. Throws UNSUPPORTED when the gateway has forgotten it. */
  deltaJob(id: string, signal?: AbortSignal): Promise<JobAnswer>;
  /** Says that a delta for this machine's class did not come out right. */
  reportEncoders(report: EncoderReport, signal?: AbortSignal): Promise<void>;
  /** Tells how updates went. Throws UNSUPPORTED where nobody wants to know. */
  reportUpdates(reports: readonly SentReport[], signal?: AbortSignal): Promise<void>;
};

/** The API of the gateway that serves a repository. */
export function gatewayApi(repository: Repository): GatewayApi {
  const where = repository.name;
  const readJob = async (response: HttpResponse): Promise<JobAnswer> => ({
    retryAfter: retryAfterSeconds(response),
    job: await readAnswer(response, deltaJobSchema, where),
  });
  const post = async (path: string, what: object, signal: AbortSignal | undefined) => {
    const answer = await repository.callExtension(path, JSON.stringify(what), signal);
    await readBody(answer.body, MAX_ANSWER_BYTES);
  };
  return {
    async plan(request, signal) {
      try {
        const body = JSON.stringify(request);
        const response = await repository.callExtension('_snapgate/plan', body, signal);
        return await readAnswer(response, planSchema, where);
      } catch (thrown) {
        if (toSnapgateError(thrown).code === 'UNSUPPORTED') return undefined;
        throw thrown;
      }
    },
    async requestDelta(request, signal) {
      const body = JSON.stringify(request);
      return readJob(await repository.callExtension('_snapgate/deltas', body, signal));
    },
    async deltaJob(id, signal) {
      const path = `_snapgate/deltas/${encodeURIComponent(id)}`;
      return readJob(await repository.callExtension(path, undefined, signal));
    },
    reportEncoders: (report, signal) => post('_snapgate/encoder-reports', report, signal),
    reportUpdates: (reports, signal) => post('_snapgate/reports', { reports }, signal),
  };
}

async function readAnswer<T>(
  response: HttpResponse,
  schema: v.GenericSchema<unknown, T>,
  where: string,
): Promise<T> {
  const { bytes, truncated } = await readBody(response.body, MAX_ANSWER_BYTES);
  if (truncated) throw new SnapgateError('LIMIT_EXCEEDED', 'an answer is too large', { where });
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw new SnapgateError('UPSTREAM_FAILED', 'the answer is not JSON', { where, cause });
  }
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const at = v.getDotPath(issue) ?? 'it';
  throw new SnapgateError('UPSTREAM_FAILED', `the answer is malformed: ${at}: ${issue.message}`, {
    where,
  });
}

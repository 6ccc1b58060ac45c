import * as v from 'valibot';
import { ERROR_CODES, type ErrorCode } from './errors.ts';
import { digestSchema as digest } from './oci/manifest.ts';
import { isTag } from './oci/reference.ts';

/**
 * What machines tell the gateway of their updates: `POST /v2/<name>/_snapgate/reports`. Nobody can
 * prove a report, so it is counted and written down and decides nothing. It names neither addresses
 * nor paths; `machine` is a digest that stands for the machine, where its owner wants that.
 */
const amount = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const errorCode = v.pipe(
  v.string(),
  v.check((text) => Object.hasOwn(ERROR_CODES, text), 'not an error code'),
  v.transform((text) => text as ErrorCode),
);

/** Most reports in one request, and most that wait on a machine. */
export const MAX_REPORTS = 32;
/** Longest text of a report. */
const MAX_TEXT = 300;

/** One attempt at an update. */
export const updateReportSchema = v.strictObject({
  version: v.literal(1),
  /** Tells reports apart, so that one that is sent twice counts once. */
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)),
  /** When the attempt began: ISO 8601. */
  time: v.pipe(v.string(), v.isoTimestamp()),
  machine: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/))),
  /** Version of the client. */
  client: v.pipe(v.string(), v.regex(/^[0-9a-z.+-]{1,32}$/)),
  tag: v.pipe(v.string(), v.check(isTag, 'not a tag')),
  /** Manifest digests: of what booted next before, and of what the tag stands for. */
  from: v.optional(digest),
  to: v.optional(digest),
  result: v.picklist(['updated', 'nothing', 'downloaded', 'failed']),
  /** How the image came. */
  method: v.optional(v.picklist(['delta', 'full', 'none'])),
  /** Bytes of all answers, and of a pull of the whole image. */
  bytes: amount,
  fullBytes: v.optional(amount),
  seconds: v.pipe(v.number(), v.finite(), v.minValue(0)),
  /** Why it failed. */
  error: v.optional(errorCode),
  /** Why the method is not `delta`. */
  fallbackReason: v.optional(
    v.pipe(
      v.string(),
      v.transform((text) => text.slice(0, MAX_TEXT)),
    ),
  ),
});
export const updateReportsSchema = v.strictObject({
  reports: v.pipe(v.array(updateReportSchema), v.minLength(1), v.maxLength(MAX_REPORTS)),
});

/** One attempt at an update, as the gateway is told. */
export type SentReport = v.InferOutput<typeof updateReportSchema>;

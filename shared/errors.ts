/**
 * The closed table of error codes. Each code has one HTTP status (answers of the gateway), one exit
 * status (both commands) and a short statement of what it means. The codes above the blank line are
 * those of the OCI distribution specification 1.1, section "Error Codes"; the others are our own.
 *
 * Exit statuses: 1 internal, 2 usage or configuration, 3 refused by policy or signature, 4 content
 * that is not what it claims to be, 5 network or registry, 6 storage or file system, 7 busy or
 * not now.
 */
export const ERROR_CODES = {
  BLOB_UNKNOWN: { http: 404, exit: 5, meaning: 'blob unknown to the registry' },
  BLOB_UPLOAD_INVALID: { http: 400, exit: 5, meaning: 'blob upload invalid' },
  BLOB_UPLOAD_UNKNOWN: { http: 404, exit: 5, meaning: 'blob upload unknown to the registry' },
  DIGEST_INVALID: { http: 400, exit: 4, meaning: 'digest does not match the content' },
  MANIFEST_BLOB_UNKNOWN: { http: 404, exit: 5, meaning: 'manifest references an unknown blob' },
  MANIFEST_INVALID: { http: 400, exit: 4, meaning: 'manifest invalid' },
  MANIFEST_UNKNOWN: { http: 404, exit: 5, meaning: 'manifest unknown to the registry' },
  NAME_INVALID: { http: 400, exit: 2, meaning: 'invalid repository name' },
  NAME_UNKNOWN: { http: 404, exit: 5, meaning: 'repository unknown to the registry' },
  SIZE_INVALID: { http: 400, exit: 4, meaning: 'length does not match the content' },
  UNAUTHORIZED: { http: 401, exit: 5, meaning: 'authentication required' },
  DENIED: { http: 403, exit: 5, meaning: 'access denied' },
  UNSUPPORTED: { http: 405, exit: 2, meaning: 'operation not supported' },
  TOOMANYREQUESTS: { http: 429, exit: 5, meaning: 'too many requests' },

  USAGE: { http: 400, exit: 2, meaning: 'wrong arguments' },
  CONFIG_INVALID: { http: 500, exit: 2, meaning: 'configuration invalid' },
  REFERENCE_INVALID: { http: 400, exit: 2, meaning: 'image reference invalid' },
  SIGNATURE_MISSING: { http: 403, exit: 3, meaning: 'no signature' },
  SIGNATURE_INVALID: { http: 403, exit: 3, meaning: 'signature invalid' },
  POLICY_REFUSED: { http: 403, exit: 3, meaning: 'refused by policy' },
  METADATA_MISSING: { http: 403, exit: 3, meaning: 'no channel metadata' },
  METADATA_INVALID: { http: 502, exit: 3, meaning: 'channel metadata malformed' },
  METADATA_UNSIGNED: { http: 403, exit: 3, meaning: 'channel metadata not signed by enough keys' },
  METADATA_EXPIRED: { http: 403, exit: 3, meaning: 'channel metadata expired' },
  METADATA_FROZEN: { http: 403, exit: 3, meaning: 'channel metadata older than the policy allows' },
  METADATA_ROLLBACK: { http: 403, exit: 3, meaning: 'channel metadata older than what was seen' },
  METADATA_MISMATCH: { http: 403, exit: 3, meaning: 'channel metadata does not fit together' },
  CHANNEL_UNKNOWN: { http: 404, exit: 3, meaning: 'no signed statement about this channel' },
  CLIENT_TOO_OLD: { http: 409, exit: 3, meaning: 'the image asks for a newer client' },
  KEY_INVALID: { http: 500, exit: 2, meaning: 'key unreadable or of an unsupported kind' },
  CONFIG_BLOB_INVALID: { http: 502, exit: 4, meaning: 'image config invalid' },
  TAR_INVALID: { http: 502, exit: 4, meaning: 'layer is not a valid tar stream' },
  DELTA_INVALID: { http: 502, exit: 4, meaning: 'delta invalid' },
  DELTA_SOURCE_MISMATCH: { http: 409, exit: 4, meaning: 'delta is for another source' },
  ENCODER_MISMATCH: { http: 409, exit: 4, meaning: 'an encoder makes other bytes than promised' },
  DIFF_ID_MISMATCH: { http: 502, exit: 4, meaning: 'rebuilt layer is not the signed one' },
  LIMIT_EXCEEDED: { http: 413, exit: 4, meaning: 'a size, count or depth is beyond its limit' },
  DELTA_REFUSED: { http: 422, exit: 4, meaning: 'no delta is made for this pair' },
  JOB_UNKNOWN: { http: 404, exit: 5, meaning: 'job unknown' },
  JOB_FAILED: { http: 500, exit: 5, meaning: 'computation failed' },
  UPSTREAM_UNREACHABLE: { http: 502, exit: 5, meaning: 'registry unreachable' },
  UPSTREAM_TIMEOUT: { http: 504, exit: 5, meaning: 'registry did not answer in time' },
  UPSTREAM_FAILED: { http: 502, exit: 5, meaning: 'registry answered with an error' },
  NO_SPACE: { http: 507, exit: 6, meaning: 'not enough free space' },
  STORAGE_BUSY: { http: 503, exit: 7, meaning: 'Podman storage is locked by another process' },
  STORAGE_INVALID: { http: 500, exit: 6, meaning: 'Podman storage is not as expected' },
  NOT_BTRFS: { http: 500, exit: 6, meaning: 'not a btrfs file system' },
  COMMAND_FAILED: { http: 500, exit: 6, meaning: 'a program that was run failed' },
  BOOT_INVALID: { http: 500, exit: 6, meaning: 'what is needed to boot is missing or damaged' },
  HEALTH_FAILED: { http: 500, exit: 6, meaning: 'the machine does not pass its health checks' },
  BUDGET_SPENT: { http: 429, exit: 7, meaning: 'the bytes allowed for today are used up' },
  OUTSIDE_WINDOW: { http: 409, exit: 7, meaning: 'not allowed at this time of the day' },
  ALREADY_RUNNING: { http: 409, exit: 7, meaning: 'another update is running' },
  NOTHING_TO_DO: { http: 409, exit: 2, meaning: 'there is nothing to act on' },
  CANCELLED: { http: 499, exit: 1, meaning: 'cancelled' },
  INTERNAL: { http: 500, exit: 1, meaning: 'internal error' },
} as const;

/** One of the codes of {@link ERROR_CODES}. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** What an error carries besides its code: where it happened, what to do next, and what caused it. */
export type ErrorDetails = {
  /** The thing concerned: a reference, a path, a URL without credentials. */
  readonly where?: string;
  /** What the reader can do next, as a whole sentence. */
  readonly hint?: string;
  /** Seconds before which it is no use to try again, as a server said. */
  readonly retryAfter?: number;
  readonly cause?: unknown;
};

/** The one error class of the project. `message` says what happened; `where` and `hint` the rest. */
export class SnapgateError extends Error {
  readonly code: ErrorCode;
  readonly where: string | undefined;
  readonly hint: string | undefined;
  readonly retryAfter: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'SnapgateError';
    this.code = code;
    this.where = details.where;
    this.hint = details.hint;
    this.retryAfter = details.retryAfter;
  }

  get httpStatus(): number {
    return ERROR_CODES[this.code].http;
  }

  get exitStatus(): number {
    return ERROR_CODES[this.code].exit;
  }

  /** The same object in JSON output, HTTP answers and events. */
  toJSON(): { code: ErrorCode; message: string; where?: string; hint?: string } {
    return {
      code: this.code,
      message: this.message,
      ...(this.where === undefined ? {} : { where: this.where }),
      ...(this.hint === undefined ? {} : { hint: this.hint }),
    };
  }
}

/** Turns anything thrown into a {@link SnapgateError}; what is one already passes unchanged. */
export function toSnapgateError(thrown: unknown): SnapgateError {
  if (thrown instanceof SnapgateError) return thrown;
  if (thrown instanceof Error) {
    if (thrown.name === 'AbortError') {
      return new SnapgateError('CANCELLED', 'cancelled', { cause: thrown });
    }
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      const path = (thrown as NodeJS.ErrnoException).path;
      return new SnapgateError('NO_SPACE', 'the file system is full', {
        ...(path === undefined ? {} : { where: path }),
        hint: 'Free some space and run the same command again.',
        cause: thrown,
      });
    }
    return new SnapgateError('INTERNAL', thrown.message, { cause: thrown });
  }
  return new SnapgateError('INTERNAL', String(thrown));
}

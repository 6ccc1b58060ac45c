import { type ErrorCode, SnapgateError } from '../../shared/errors.ts';
import { printable } from '../../shared/signing/verdict.ts';
import { EXPIRED_HINT } from '../../shared/tuf/view.ts';

type Kind = readonly [RegExp, ErrorCode, string];

/**
 * What the TUF client says, and what it means. It tells most of it as text only; the texts are those
 * of the version that is used, and tests with real attacks hold them.
 */
const KINDS: readonly Kind[] = [
  [/is expired/, 'METADATA_EXPIRED', EXPIRED_HINT],
  [
    /is less than current version|Missing file .* in new snapshot/,
    'METADATA_ROLLBACK',
    'What is offered was replaced by something newer, which this machine has seen.',
  ],
  [/was signed by \d+\/\d+ keys/, 'METADATA_UNSIGNED', 'See who signs, with snapgate tuf status.'],
  [
    /Expected (length|hash)|does not match snapshot version|doesn't match timestamp|Expected version/,
    'METADATA_MISMATCH',
    'Its parts are of different times, or were changed on the way.',
  ],
];

const OTHER: Kind = [/./, 'METADATA_INVALID', 'Make it with snapgate tuf.'];

/** Turns what the TUF client threw into an error of ours. */
export function tufError(thrown: unknown, where: string): SnapgateError {
  if (thrown instanceof SnapgateError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  const [, code, hint] = KINDS.find(([pattern]) => pattern.test(text)) ?? OTHER;
  const message = printable(text.replace(/^Unable to load \w+ (metadata )?error (Error: )?/, ''));
  return new SnapgateError(code, message, { where, hint, cause: thrown });
}

import type { Recompressor } from '../../shared/delta/layer-delta/reader.ts';
import { type ErrorCode, SnapgateError, toSnapgateError } from '../../shared/errors.ts';

/** Ways of an encoder to fail that are its own, and not those of what it reads. */
const OWN_FAILURES: readonly ErrorCode[] = ['COMMAND_FAILED', 'LIMIT_EXCEEDED', 'UNSUPPORTED'];

/** Notices the encoders that a layer is built with, and what goes wrong with them. */
export class EncoderWatch {
  #isUsed = false;

  /** The same recompressor; an encoder that fails throws ENCODER_MISMATCH. */
  watch(recompressor: Recompressor): Recompressor {
    const note = () => {
      this.#isUsed = true;
    };
    return {
      unpack: (method, packed, size) => recompressor.unpack(method, packed, size),
      async *encode(recipe, content, size) {
        note();
        try {
          yield* recompressor.encode(recipe, content, size);
        } catch (thrown) {
          throw OWN_FAILURES.includes(toSnapgateError(thrown).code) ? mismatch(thrown) : thrown;
        }
      },
    };
  }

  /**
   * What an error means: a layer that is not what it must be although all went well is put down to
   * the encoders, if there were any.
   */
  judge(thrown: unknown): SnapgateError {
    const error = toSnapgateError(thrown);
    return this.#isUsed && error.code === 'DIFF_ID_MISMATCH' ? mismatch(error) : error;
  }
}

function mismatch(cause: unknown): SnapgateError {
  const why = toSnapgateError(cause).message;
  return new SnapgateError('ENCODER_MISMATCH', `an encoder of this machine went wrong: ${why}`, {
    hint: 'A delta without recompression, or the full image, can be fetched.',
    cause,
  });
}

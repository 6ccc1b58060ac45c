import type { Fetcher } from 'tuf-js';
import { DownloadHTTPError } from 'tuf-js/dist/error.js';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { parseStrictJson } from '../../shared/strict-json.ts';
import { invalid } from '../../shared/tuf/metadata.ts';
import { maxBytes, roleOfFile } from '../../shared/tuf/roles.ts';
import type { MetadataSource } from './metadata-source.ts';

/**
 * What the TUF client reads through: names, sizes and form are checked before it sees anything, and
 * what went wrong is kept, as the client tells it on as text only.
 */
export class TufFetcher implements Fetcher {
  /** Why the last file did not come. */
  failure: SnapgateError | undefined;
  readonly #source: MetadataSource;
  readonly #held: (file: string) => Promise<Uint8Array | undefined>;
  readonly #signal: AbortSignal;

  constructor(
    source: MetadataSource,
    held: (file: string) => Promise<Uint8Array | undefined>,
    signal: AbortSignal,
  ) {
    this.#source = source;
    this.#held = held;
    this.#signal = signal;
  }

  async downloadBytes(url: string, maxLength: number): Promise<Buffer> {
    const file = url.slice(url.lastIndexOf('/') + 1);
    const role = roleOfFile(file);
    const where = `${this.#source.name}${file}`;
    try {
      if (role === undefined) throw invalid('role', new Error('it has no name for a file'), where);
      // A length that metadata states may be anything.
      const limit = Math.min(maxLength, maxBytes(role));
      const held = await this.#held(file);
      const bytes = await this.#source.read({ file, limit, held, signal: this.#signal });
      this.failure = undefined;
      if (bytes === undefined) throw await this.#missing(role, where);
      checkForm(role, bytes, where);
      return Buffer.from(bytes);
    } catch (thrown) {
      if (!(thrown instanceof DownloadHTTPError)) this.failure = toSnapgateError(thrown);
      throw thrown;
    }
  }

  downloadFile<T>(): Promise<T> {
    throw new Error('targets come by their digests from elsewhere');
  }

  /** The next root may be missing; everything else may not. */
  async #missing(role: string, where: string): Promise<DownloadHTTPError> {
    if (role !== 'root') {
      this.failure = new SnapgateError('METADATA_MISSING', `there is no metadata of ${role}`, {
        where,
        hint: 'See that the gateway has tuf.folder set, or that the bundle was exported with --tuf.',
      });
    }
    return new DownloadHTTPError('missing', 404);
  }
}

function checkForm(role: string, bytes: Uint8Array, where: string): void {
  try {
    parseStrictJson(bytes);
  } catch (cause) {
    throw invalid(role, cause, where);
  }
}

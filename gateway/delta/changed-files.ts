import { HashTable } from './hash-table.ts';
import type { SourceChooser } from './source-choice.ts';
import type { TargetFile, TargetLayer } from './target-layer.ts';

/** Encoders that take much are worth it from this size of a file on, in bytes. */
const MIN_DEAR = 1024 * 1024;
/** There is much new from so many bytes of files on that may bring it. */
const MIN_MUCH_NEW = 14 * 1024 * 1024;
/** Files of this size are large programs, in bytes: what is new of them is worth its time. */
const MIN_PROGRAM = 8 * 1024 * 1024;

/** The files of a layer whose content no source has, by their number. */
export class ChangedFiles {
  readonly #layer: TargetLayer;
  readonly #byDigest = new HashTable();
  /** Those that are worth an encoder that takes much. */
  readonly large: readonly number[];
  /**
   * Whether much is new, which takes too long to be packed for the least bytes: as in a major release,
   * whose files are like nothing before, or where compressed files stay as they are.
   */
  readonly hasMuchNew: boolean;

  /** `areOpened` is whether compressed files are. */
  constructor(layer: TargetLayer, chooser: SourceChooser, areOpened: boolean) {
    this.#layer = layer;
    const large: number[] = [];
    let newBytes = 0;
    for (let i = 0; i < layer.files.length; i += 1) {
      const file = layer.files.at(i) as TargetFile;
      if (chooser.same(file) !== undefined) continue;
      if (newBytes < MIN_MUCH_NEW) {
        const isNew = areOpened
          ? !file.facts.isPacked && !chooser.knowsLike(file)
          : file.size < MIN_PROGRAM;
        if (isNew) newBytes += file.size;
      }
      this.#byDigest.set(keyOf(file.facts.sha256), i);
      if (file.size >= MIN_DEAR) large.push(i);
    }
    this.large = large;
    this.hasMuchNew = newBytes >= MIN_MUCH_NEW;
  }

  /** One whose content has a digest, in hexadecimal. */
  holding(sha256: string): number | undefined {
    const file = this.#byDigest.get(keyOf(sha256));
    const isSame = file !== undefined && this.#layer.files.at(file)?.facts.sha256 === sha256;
    return isSame ? file : undefined;
  }
}

/** What is looked up of a digest: its first 52 bits. */
function keyOf(sha256: string): number {
  return Number.parseInt(sha256.slice(0, 13), 16);
}

import { readCpioEntry } from '../../shared/recompress/cpio.ts';
import type { ChangedFiles } from './changed-files.ts';
import type { Stretch } from './delta-work.ts';
import { baseName } from './entry-path.ts';
import { MAX_STREAMS, type OpenedPart } from './open-packed.ts';
import type { Source, SourceChooser } from './source-choice.ts';
import type { SourceStore } from './source-store.ts';
import { type SpoolFile, stretchSource } from './spool-file.ts';
import type { TargetFile, TargetLayer } from './target-layer.ts';
import type { WorkerPool } from './worker-pool.ts';

/**
 * A member of an archive that is a whole file elsewhere: of the layer, by its number, or of the source.
 * Offsets count from the archive's start.
 */
export type CopiedMember = Stretch & {
  readonly kind: 'copied';
  readonly name: string;
  readonly from: { readonly file: number } | Source;
};
/** A part of a file of the layer, before it is planned. */
export type FoundPart = OpenedPart | CopiedMember;

type Archives = {
  readonly layer: TargetLayer;
  readonly store: SourceStore;
  readonly chooser: SourceChooser;
  readonly pool: WorkerPool;
  readonly changed: ChangedFiles;
};

/**
 * Finds the members of archives that are files elsewhere. The kernel modules of an initrd are those of
 * its image, packed as they are there: to copy them takes neither unpacking nor packing again.
 */
export class ArchiveCopies {
  readonly #archives: Archives;

  constructor(archives: Archives) {
    this.#archives = archives;
  }

  /** Of a file of the layer: files of the source, and those of the layer that come after it. */
  async ofFile(index: number, { offset, size }: TargetFile): Promise<CopiedMember[]> {
    const { layer, chooser, changed } = this.#archives;
    const copies: CopiedMember[] = [];
    for (const { sha256, ...stretch } of await this.#members(layer.spool, { offset, size })) {
      const add = (from: CopiedMember['from']) => copies.push({ kind: 'copied', ...stretch, from });
      const source = chooser.holding(sha256);
      const file = source === undefined ? changed.holding(sha256) : undefined;
      if (source !== undefined) add(source);
      else if (file !== undefined && file > index) add({ file });
    }
    return copies.slice(0, MAX_STREAMS);
  }

  /** Where those members of a file of the source begin that nothing is compared with then. */
  async counterparts(content: Stretch, copies: readonly CopiedMember[]): Promise<number[]> {
    if (copies.length === 0) return [];
    const names = new Set(copies.map(({ name }) => baseName(name)));
    const members = await this.#members(this.#archives.store.spool, content);
    return members.flatMap(({ name, offset }) => (names.has(baseName(name)) ? [offset] : []));
  }

  async #members(spool: SpoolFile, { offset, size }: Stretch) {
    const source = stretchSource(spool.read, { offset, size });
    if (readCpioEntry(source, 0, 0) === undefined) return [];
    return this.#archives.pool.run({
      kind: 'members',
      file: spool.path,
      stretch: { offset, size },
    });
  }
}

/** Parts of a file of some size with members that are copied instead; undefined where nothing is known. */
export function withCopies(
  parts: readonly OpenedPart[] | undefined,
  copies: readonly CopiedMember[],
  size: number,
): readonly FoundPart[] | undefined {
  if (copies.length === 0) return parts;
  const found: FoundPart[] = [];
  let next = 0;
  for (const part of parts ?? [{ kind: 'raw' as const, offset: 0, size }]) {
    const end = part.offset + part.size;
    let { offset } = part;
    const raw = (to: number) => {
      if (to > offset) found.push({ kind: 'raw', offset, size: to - offset });
    };
    for (let copy = copies[next]; copy !== undefined && copy.offset < end; copy = copies[next]) {
      raw(copy.offset);
      found.push(copy);
      offset = copy.offset + copy.size;
      next += 1;
    }
    if (part.kind === 'raw') raw(end);
    else found.push(part);
  }
  return found;
}

import { SourceEntries, type SourceEntry } from '../../shared/delta/layer-delta/source-entries.ts';
import { joinRecords } from '../../shared/delta/layer-delta/tar-records.ts';
import type { SourceFile } from '../../shared/delta/piece.ts';
import type { Digest } from '../../shared/digest.ts';
import type { TarEvent } from '../../shared/tar/reader.ts';
import { HashTable, wideHashOf } from './hash-table.ts';
import { SpoolFile, type SpoolWriter, stretchSource } from './spool-file.ts';

/** Where the header stream of a layer stands in a spool file, in bytes. */
export type HeaderStretch = {
  readonly diffId: Digest;
  readonly offset: number;
  readonly size: number;
};

/** Writes the header streams of layers (shared/delta/FORMAT.md section 1) one after the other. */
export class HeaderSpooler {
  readonly #writer: SpoolWriter;
  readonly #stretches: HeaderStretch[] = [];

  constructor(writer: SpoolWriter) {
    this.#writer = writer;
  }

  /** Those of layers whose headers a delta may refer to. */
  get stretches(): readonly HeaderStretch[] {
    return this.#stretches;
  }

  /** Begins a layer; what comes back takes its events and, at its end, closes it. */
  layer(diffId: Digest): { take(event: TarEvent): Promise<void>; end(): void } {
    const offset = this.#writer.position;
    let isUsable = true;
    return {
      take: async (event) => {
        if (event.kind === 'content') return;
        if (event.kind !== 'entry') return this.#writer.write(event.bytes);
        const { sparse, path } = event.entry;
        if (sparse !== undefined || path.split('/').includes('..')) isUsable = false;
        await this.#writer.write(event.raw);
      },
      end: () => {
        const size = this.#writer.position - offset;
        if (isUsable) this.#stretches.push({ diffId, offset, size });
      },
    };
  }
}

/** The header streams of a source image, with its entries by path. */
export class SourceHeaders {
  readonly #spool: SpoolFile;
  readonly #stretches: readonly HeaderStretch[];
  /** Entries by path, numbered through all layers. */
  readonly #byPath = new HashTable();
  readonly #byVersionless = new HashTable();
  /** The number of each layer's first entry, and at the end how many there are. */
  readonly #firsts: number[] = [0];

  constructor(path: string, stretches: readonly HeaderStretch[], maxEntries: number) {
    this.#spool = new SpoolFile(path);
    this.#stretches = stretches;
    let number = 0;
    for (const stretch of stretches) {
      const entries = new SourceEntries([this.#file(stretch)], maxEntries);
      for (let index = 0; entries.allows(index + 1); index += 1, number += 1) {
        const { path } = entries.at(index).facts;
        this.#byPath.set(wideHashOf(path), number);
        this.#byVersionless.set(wideHashOf(versionless(path)), number);
      }
      this.#firsts.push(number);
    }
  }

  /** The header stream of a layer, or undefined when a delta may not refer to it. */
  open(diffId: Digest): SourceFile | undefined {
    const stretch = this.#stretches.find((one) => one.diffId === diffId);
    return stretch === undefined ? undefined : this.#file(stretch);
  }

  /** The layers that hold entries like those of a target layer, which has entries of these paths. */
  references(paths: Iterable<string>, maxEntries: number): HeaderReferences {
    const found = this.#stretches.map(() => 0);
    for (const path of paths) {
      const number = this.#at(path) ?? this.#renamed(path);
      if (number === undefined) continue;
      const layer = this.#layerOf(number);
      found[layer] = (found[layer] ?? 0) + 1;
    }
    /** How far the numbers of a layer are moved. */
    const shifts = new Map<number, number>();
    const layers: HeaderStretch[] = [];
    let start = 0;
    for (const [layer, stretch] of this.#stretches.entries()) {
      // A layer costs 32 bytes to name.
      if ((found[layer] ?? 0) < MIN_REFERENCES) continue;
      const [first = 0, end = 0] = this.#firsts.slice(layer, layer + 2);
      shifts.set(layer, start - first);
      start += end - first;
      layers.push(stretch);
    }
    const files = layers.map((stretch) => this.#file(stretch));
    const moved = (number: number | undefined) => {
      const shift = number === undefined ? undefined : shifts.get(this.#layerOf(number));
      return shift === undefined || number === undefined ? undefined : number + shift;
    };
    return {
      bytes: layers.reduce((sum, { size }) => sum + size, 0),
      layers: layers.map(({ diffId }) => diffId),
      count: start,
      entries: new SourceEntries(files, maxEntries),
      at: (path) => moved(this.#at(path)),
      renamed: (path) => moved(this.#renamed(path)),
    };
  }

  close(): void {
    this.#spool.close();
  }

  #at(path: string): number | undefined {
    return this.#byPath.get(wideHashOf(path));
  }

  #renamed(path: string): number | undefined {
    return this.#byVersionless.get(wideHashOf(versionless(path)));
  }

  #layerOf(number: number): number {
    return this.#firsts.findLastIndex((first) => first <= number);
  }

  #file({ diffId, ...stretch }: HeaderStretch): SourceFile {
    return { path: diffId, ...stretchSource(this.#spool.read, stretch) };
  }
}

const MIN_REFERENCES = 3;

/** Entries of source layers that the headers of a target layer are coded against. */
export type HeaderReferences = {
  readonly layers: readonly Digest[];
  /** Size of their header streams, in bytes. */
  readonly bytes: number;
  /** How many entries they have together. */
  readonly count: number;
  readonly entries: SourceEntries;
  /** Number of the entry that stands at a path, or of one that differs from it in numbers only. */
  readonly at: (path: string) => number | undefined;
  readonly renamed: (path: string) => number | undefined;
};

/** Whether an entry's headers are the same bytes. */
export function sameHeaders(entry: SourceEntry, raw: Uint8Array): boolean {
  return Buffer.compare(joinRecords(entry.records), raw) === 0;
}

/** A path in which every number is the same: versions differ, the rest stays. */
function versionless(path: string): string {
  return path.replace(/\d+/g, '0');
}

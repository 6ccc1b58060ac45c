import type { Digest } from '../../shared/digest.ts';
import { ContentTable } from './content-table.ts';
import type { ContentOrigin } from './describe-layers.ts';
import { GrowingNumbers } from './growing-numbers.ts';
import type { EntryCount } from './image-side.ts';
import type { MergedTree } from './merged-tree.ts';
import { SKETCH_SIZE } from './sketch.ts';
import { TextList } from './text-list.ts';

/** From how many files on few samples of each are kept: they are most of what is. */
const MANY_FILES = 200_000;
const FEW_SAMPLES = 4;
/** Linux opens no longer paths. */
const MAX_PATH = 4096;

/** Contents of files as they are read, by number: where they are in the store's file and in a layer. */
export class PlacedContents {
  readonly offsets = new GrowingNumbers(Float64Array);
  readonly sizes = new GrowingNumbers(Float64Array);
  readonly #layers = new GrowingNumbers(Uint16Array);
  /** One more than the place in the layer; 0 for sparse files. */
  readonly #places = new GrowingNumbers(Uint32Array);
  readonly #diffIds: readonly Digest[];

  constructor(diffIds: readonly Digest[]) {
    this.#diffIds = diffIds;
  }

  /** Returns its number. */
  add(offset: number, size: number, layer: number, place: number | undefined): number {
    this.offsets.push(offset);
    this.sizes.push(size);
    this.#layers.push(layer);
    this.#places.push(place === undefined ? 0 : place + 1);
    return this.offsets.length - 1;
  }

  origin(index: number): ContentOrigin {
    const diffId = this.#diffIds[this.#layers.at(index)] as Digest;
    const place = this.#places.at(index);
    return place === 0 ? { diffId } : { diffId, place: place - 1 };
  }
}

/** The files of a merged root in the order of their paths; each names its content by number. */
export type SourceFiles = { readonly paths: TextList; readonly contents: GrowingNumbers };

/**
 * The files of a tree whose nodes name contents by number, -1 for what is no source. Paths through
 * links may be longer than what the entries said. Throws LIMIT_EXCEEDED.
 */
export function sortedFiles(tree: MergedTree<number>, entries: EntryCount): SourceFiles {
  const names: string[] = [];
  const contents: number[] = [];
  for (const [name, content] of tree.files()) {
    if (content < 0 || name.length > MAX_PATH) continue;
    entries.take(name.length);
    names.push(name);
    contents.push(content);
  }
  const order = Uint32Array.from(names.keys());
  order.sort((a, b) => ((names[a] ?? '') < (names[b] ?? '') ? -1 : 1));
  const sorted = { paths: new TextList(), contents: new GrowingNumbers(Uint32Array) };
  for (const i of order) {
    sorted.paths.push(names[i] ?? '');
    sorted.contents.push(contents[i] ?? 0);
  }
  return sorted;
}

/** The contents that are left of those that were read, numbered anew in the order of files. */
export function contentsOf({ contents: placedOf }: SourceFiles, placed: PlacedContents) {
  const renumbered = new Int32Array(placed.offsets.length).fill(-1);
  const origins = new GrowingNumbers(Uint32Array);
  const numbers = new GrowingNumbers(Uint32Array);
  for (let file = 0; file < placedOf.length; file += 1) {
    const at = placedOf.at(file);
    if (renumbered[at] === -1) {
      renumbered[at] = origins.length;
      origins.push(at);
    }
    numbers.push(renumbered[at] ?? 0);
  }
  const samples = origins.length < MANY_FILES ? SKETCH_SIZE : FEW_SAMPLES;
  const contents = new ContentTable(origins.length, samples);
  for (let i = 0; i < origins.length; i += 1) {
    contents.place(i, placed.offsets.at(origins.at(i)), placed.sizes.at(origins.at(i)));
  }
  return { contents, origins, numbers };
}

import { baseName } from './entry-path.ts';
import { HashGroups, hashOf } from './hash-table.ts';
import { resemblance } from './sketch.ts';
import type { SourceContent, SourceStore } from './source-store.ts';
import type { TargetFile } from './target-layer.ts';

/** A file of the source, by one of its paths. */
export type Source = { readonly path: string; readonly content: SourceContent };

/** Where a file of the target can come from. */
export type SourceChoice = {
  /** A source with the same content. */
  readonly same?: Source;
  /** Sources that it may resemble, most promising first; empty when `same` is there. */
  readonly similar: readonly Source[];
};

/** Most sources of one name that are looked at. */
const MAX_NAMED = 64;
/** A sample that more sources than this share says nothing. */
const MAX_SHARING = 32;
const NONE = 0xffffffff;
/** Sources without a name in common must share so many samples to be compared beside others. */
const MIN_COMMON = 2;

/** Finds sources for files: by content, by path, by name without version, by resemblance. */
export class SourceChooser {
  readonly #store: SourceStore;
  readonly #candidates: number;
  /** Contents by their digest; files by what their paths are without numbers. */
  readonly #byDigest: HashGroups;
  readonly #byVersionless: HashGroups;
  readonly #byName: HashGroups;
  /** Samples by their value, numbered through all contents, and the content of each. */
  readonly #bySample: HashGroups;
  readonly #sampled: Uint32Array;
  /** The first file of each content. */
  readonly #fileOf: Uint32Array;

  /** `candidates` is how many sources are at most named for one file. */
  constructor(store: SourceStore, candidates: number) {
    const { contents, fileCount } = store;
    this.#store = store;
    this.#candidates = candidates;
    this.#byDigest = new HashGroups(contents.length);
    this.#byVersionless = new HashGroups(fileCount);
    this.#byName = new HashGroups(fileCount);
    this.#bySample = new HashGroups(contents.sampleCount);
    this.#sampled = new Uint32Array(contents.sampleCount);
    this.#fileOf = new Uint32Array(contents.length).fill(NONE);
    for (let file = 0; file < fileCount; file += 1) {
      const content = store.contentOf(file);
      if (contents.size(content) === 0) continue;
      const path = store.path(file);
      this.#byVersionless.add(hashOf(versionless(path)), file, MAX_NAMED);
      this.#byName.add(hashOf(versionless(baseName(path))), file, MAX_NAMED);
      if (this.#fileOf[content] !== NONE) continue;
      this.#fileOf[content] = file;
      if (this.#holding(contents.digestStart(content), contents.digest(content)) === undefined) {
        this.#byDigest.add(contents.digestStart(content), content, Number.POSITIVE_INFINITY);
      }
      const first = contents.firstSample(content);
      for (const [i, sample] of contents.sketch(content).entries()) {
        this.#sampled[first + i] = content;
        this.#bySample.add(sample, first + i, MAX_SHARING + 1);
      }
    }
  }

  /** A source with the same content; the one with the same path if that is one. */
  same({ path, size, facts: { sha256 } }: TargetFile): Source | undefined {
    const store = this.#store;
    if (size === 0) return undefined;
    const own = store.fileAt(path);
    if (own !== undefined && store.contents.digest(store.contentOf(own)) === sha256) {
      return { path, content: store.content(store.contentOf(own)) };
    }
    return this.holding(sha256);
  }

  /** A source whose content has a digest, in hexadecimal. */
  holding(sha256: string): Source | undefined {
    const content = this.#holding(Number.parseInt(sha256.slice(0, 8), 16) | 0, sha256);
    if (content === undefined) return undefined;
    const store = this.#store;
    return { path: store.path(this.#fileOf[content] ?? 0), content: store.content(content) };
  }

  /** Whether a source has samples in common with a file; of most files that is the one of their path. */
  knowsLike(target: TargetFile): boolean {
    const { contents } = this.#store;
    const { sketch } = target.facts;
    const own = this.#store.fileAt(target.path);
    const alike = (content: number) => resemblance(sketch, contents.sketch(content)) > 0;
    if (own !== undefined && alike(this.#store.contentOf(own))) return true;
    return this.choose(target).similar.some(({ content }) => alike(content.index));
  }

  choose(target: TargetFile): SourceChoice {
    const same = this.same(target);
    if (same !== undefined) return { same, similar: [] };
    const { path, size, facts } = target;
    const store = this.#store;
    const { contents } = store;
    const ownFile = store.fileAt(path);
    const scores = new Map<number, { file: number; alike: number; score: number }>();
    const consider = (file: number, bonus: number) => {
      const content = store.contentOf(file);
      const alike = resemblance(facts.sketch, contents.sketch(content));
      const oldSize = contents.size(content);
      const score = alike * 4 + bonus + Math.min(size, oldSize) / Math.max(size, oldSize) / 4;
      if (score > (scores.get(content)?.score ?? 0)) {
        scores.set(content, { file, alike, score });
      }
    };
    if (ownFile !== undefined && contents.size(store.contentOf(ownFile)) > 0) consider(ownFile, 1);
    for (const file of this.#byVersionless.of(hashOf(versionless(path)))) consider(file, 0.75);
    for (const file of this.#byName.of(hashOf(versionless(baseName(path))))) consider(file, 0.5);
    // Where there is nothing else, one sample of 16 is worth a look.
    for (const least of [MIN_COMMON, 1]) {
      if (least < MIN_COMMON && scores.size > 0) break;
      for (const content of this.#resembling(facts.sketch, least)) {
        consider(this.#fileOf[content] ?? 0, 0);
      }
    }
    // A name alone is reason enough to compare one source, and not for more.
    const ranked = [...scores]
      .sort(([, a], [, b]) => b.score - a.score)
      .filter(([, { alike }], i) => i === 0 || alike > 0);
    return {
      similar: ranked.slice(0, this.#candidates).map(([content, { file }]) => ({
        ...{ path: store.path(file), content: store.content(content) },
      })),
    };
  }

  /** The first content with a digest. */
  #holding(start: number, digest: string): number | undefined {
    const { contents } = this.#store;
    return this.#byDigest.of(start).find((content) => contents.digest(content) === digest);
  }

  /** Contents that share so many samples. */
  #resembling(sketch: Uint32Array, least: number): number[] {
    const counts = new Map<number, number>();
    for (const sample of sketch) {
      const sharing = this.#bySample.of(sample);
      if (sharing.length > MAX_SHARING) continue;
      for (const at of sharing) {
        const content = this.#sampled[at] ?? 0;
        counts.set(content, (counts.get(content) ?? 0) + 1);
      }
    }
    return [...counts].filter(([, count]) => count >= least).map(([content]) => content);
  }
}

/** A path in which every number is the same: versions differ, the rest stays. */
function versionless(path: string): string {
  return path.replace(/\d+/g, '0');
}

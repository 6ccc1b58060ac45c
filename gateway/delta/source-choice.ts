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
/** Sources without a name in common must share this much of their samples. */
const MIN_RESEMBLANCE = 2 / 16;

/** Finds sources for files: by content, by path, by name without version, by resemblance. */
export class SourceChooser {
  readonly #byDigest = new Map<string, Source>();
  readonly #byPath = new Map<string, Source>();
  readonly #byVersionless = new Map<string, Source[]>();
  readonly #byName = new Map<string, Source[]>();
  readonly #candidates: number;
  readonly #bySample = new Map<number, Source[]>();

  /** `candidates` is how many sources are at most named for one file. */
  constructor(store: SourceStore, candidates: number) {
    this.#candidates = candidates;
    const sketched = new Set<SourceContent>();
    for (const [path, content] of store.files) {
      if (content.size === 0) continue;
      const source = { path, content };
      this.#byPath.set(path, source);
      if (!this.#byDigest.has(content.facts.sha256)) {
        this.#byDigest.set(content.facts.sha256, source);
      }
      add(this.#byVersionless, versionless(path), source, MAX_NAMED);
      add(this.#byName, versionless(baseName(path)), source, MAX_NAMED);
      if (sketched.has(content)) continue;
      sketched.add(content);
      for (const sample of content.facts.sketch) {
        add(this.#bySample, sample, source, MAX_SHARING + 1);
      }
    }
  }

  choose({ path, size, facts }: TargetFile): SourceChoice {
    const own = this.#byPath.get(path);
    const isSame = own?.content.facts.sha256 === facts.sha256;
    const same = isSame ? own : this.#byDigest.get(facts.sha256);
    if (same !== undefined) return { same, similar: [] };
    const scores = new Map<SourceContent, { source: Source; alike: number; score: number }>();
    const consider = (source: Source, bonus: number) => {
      const { content } = source;
      const alike = resemblance(facts.sketch, content.facts.sketch);
      const sizes = Math.min(size, content.size) / Math.max(size, content.size);
      const score = alike * 4 + bonus + sizes / 4;
      if (score > (scores.get(content)?.score ?? 0)) scores.set(content, { source, alike, score });
    };
    if (own !== undefined) consider(own, 1);
    for (const source of this.#byVersionless.get(versionless(path)) ?? []) consider(source, 0.75);
    for (const source of this.#byName.get(versionless(baseName(path))) ?? []) consider(source, 0.5);
    for (const source of this.#resembling(facts.sketch)) consider(source, 0);
    // A name alone is reason enough to compare one source, and not for more.
    const ranked = [...scores.values()]
      .sort((a, b) => b.score - a.score)
      .filter(({ alike }, i) => i === 0 || alike > 0);
    return { similar: ranked.slice(0, this.#candidates).map(({ source }) => source) };
  }

  #resembling(sketch: Uint32Array): Source[] {
    const counts = new Map<Source, number>();
    for (const sample of sketch) {
      const sources = this.#bySample.get(sample) ?? [];
      if (sources.length > MAX_SHARING) continue;
      for (const source of sources) counts.set(source, (counts.get(source) ?? 0) + 1);
    }
    const least = Math.max(2, sketch.length * MIN_RESEMBLANCE);
    return [...counts].filter(([, count]) => count >= least).map(([source]) => source);
  }
}

function add<Key>(map: Map<Key, Source[]>, key: Key, source: Source, limit: number): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [source]);
  else if (list.length < limit) list.push(source);
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** A path in which every number is the same: versions differ, the rest stays. */
function versionless(path: string): string {
  return path.replace(/\d+/g, '0');
}

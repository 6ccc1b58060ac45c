import { encoderBytes, type Recompression } from '../../shared/delta/machine-class.ts';
import { ArchiveCopies, type CopiedMember, type FoundPart, withCopies } from './archive-copies.ts';
import { type Base, Bases, type Place } from './bases.ts';
import { ChangedFiles } from './changed-files.ts';
import type { FoundMatches, Stretch } from './delta-work.ts';
import { type FilePlan, type PlanOptions, planFile } from './file-plans.ts';
import type { KeptRecipes } from './kept-recipes.ts';
import type { OpenedPart, OpenedStream, SpooledStretch } from './open-packed.ts';
import type { SourceChoice } from './source-choice.ts';
import type { SourceContent } from './source-store.ts';
import type { TargetFile, TargetLayer } from './target-layer.ts';

/** A run of a file that is opened. Offsets count from the file's start. */
export type PlannedPart =
  | {
      readonly kind: 'raw';
      readonly offset: number;
      readonly size: number;
      readonly like?: Likeness;
    }
  | {
      readonly kind: 'packed';
      readonly stream: OpenedStream;
      readonly like?: Likeness;
      /** Files of the same layer that stand in the content, by their place in it. */
      readonly shared: readonly SharedFile[];
    }
  | (CopiedMember & { readonly like?: never });

/** A base and three numbers for each match: old offset, new offset, length. */
export type Likeness = { readonly base: Base; readonly matches: Float64Array };
export type SharedFile = Stretch & { readonly file: number };

/** A file that was opened, and where it can come from; without parts nothing in it can be. */
type Prepared = {
  readonly choice: SourceChoice;
  readonly parts: readonly FoundPart[] | undefined;
};

/** How the content of a file is made in the project's own format. */
export type OwnPlan =
  | FilePlan
  | { readonly kind: 'opened'; readonly parts: readonly PlannedPart[] };

export type OwnPlanOptions = PlanOptions & {
  /** Folder for unpacked contents. */
  readonly folder: string;
  /** The class of machines that the delta is for; compressed files stay as they are when absent. */
  readonly machines?: Recompression | undefined;
  /** Recipes of the layer's files. */
  readonly recipes: KeptRecipes;
  /** Memory for an encoder while nothing else is done, in bytes. */
  readonly aloneBytes: number;
  /** Called with bytes of temporary room that was taken. */
  readonly onSpooled: (bytes: number) => void;
};

/** Files smaller than this, in bytes, are not opened. */
const MIN_OPENED = 64;
const MIN_MATCHED = 48;
/**
 * Most bytes that a file may hold once it is opened, and most that all of them may together: this
 * many times what they are as they stand, besides what any may have.
 */
const MAX_OPENED = { file: 64, layer: 8, any: 64 * 1024 * 1024 } as const;
/** Content with its parse costs more than the stream as it is from this many times its size on. */
const MAX_PARSED_COST = 1.5;
/** Files that are worked on ahead of the one that is written. */
export const LOOK_AHEAD = 64;

/** Plans the files of a layer; worker threads work ahead. */
export class OwnPlans {
  readonly #layer: TargetLayer;
  readonly #options: OwnPlanOptions;
  readonly #plans = new Map<number, Promise<OwnPlan>>();
  readonly #changed: ChangedFiles;
  /** Sources by the number of their content and how they were opened. */
  readonly #opened = new Map<string, Promise<readonly OpenedPart[] | undefined>>();
  /** Files that were opened beforehand, by their number. */
  readonly #prepared = new Map<number, Prepared>();
  readonly #copies: ArchiveCopies;
  #next = 0;
  /** How many bytes may still be opened. */
  #allowance: number;

  constructor(layer: TargetLayer, options: OwnPlanOptions) {
    this.#layer = layer;
    this.#options = options;
    this.#changed = new ChangedFiles(layer, options.chooser, options.machines !== undefined);
    this.#copies = new ArchiveCopies({ layer, ...options, changed: this.#changed });
    this.#allowance = 4 * MAX_OPENED.any + MAX_OPENED.layer * layer.spool.size;
  }

  /** Whether much is new, as {@link ChangedFiles.hasMuchNew} has it. */
  get hasMuchNew(): boolean {
    return this.#changed.hasMuchNew;
  }

  /**
   * Opens large files beforehand where encoders may take more than a thread may beside the others:
   * such an encoder runs alone, while the layer's own coders take nothing yet.
   */
  async prepare(): Promise<void> {
    const { chooser, machines, pool, workerBytes, aloneBytes } = this.#options;
    if (machines === undefined || encoderBytes(machines) <= workerBytes) return;
    const dear: { readonly index: number; readonly choice: SourceChoice }[] = [];
    const most = encoderBytes(machines);
    const large = this.#changed.large.values();
    const work = async () => {
      for (const index of large) {
        const choice = chooser.choose(this.#layer.files.at(index) as TargetFile);
        const { parts, dearest } = await this.#open(index, choice, workerBytes, machines, most);
        if (dearest > 0 && dearest <= most) dear.push({ index, choice });
        else this.#prepared.set(index, { choice, parts });
      }
    };
    await Promise.all(Array.from({ length: pool.size }, work));
    if (dear.length > 0) await pool.tidy();
    for (const { index, choice } of dear) {
      const { parts } = await this.#open(index, choice, aloneBytes, machines);
      this.#prepared.set(index, { choice, parts });
    }
  }

  /** The plan of a file by its number, when all before it have been asked for. */
  next(index: number): Promise<OwnPlan> {
    const last = Math.min(this.#layer.files.length, index + LOOK_AHEAD);
    for (this.#next = Math.max(this.#next, index); this.#next < last; this.#next += 1) {
      this.get(this.#next);
    }
    return this.get(index);
  }

  /** A plan that is not needed again. */
  release(index: number): void {
    this.#plans.delete(index);
  }

  /** The plan of any file by its number; it is begun. */
  get(index: number): Promise<OwnPlan> {
    const known = this.#plans.get(index);
    if (known !== undefined) return known;
    const plan = this.#plan(index, this.#layer.files.at(index) as TargetFile);
    // Who waits for an earlier one must not make this an unhandled rejection.
    plan.catch(() => {});
    this.#plans.set(index, plan);
    return plan;
  }

  async #plan(index: number, file: TargetFile): Promise<OwnPlan> {
    const { chooser, machines, workerBytes } = this.#options;
    if (machines === undefined || file.size < MIN_OPENED) {
      return planFile(this.#layer, file, this.#options);
    }
    const prepared = this.#prepared.get(index);
    this.#prepared.delete(index);
    const choice = prepared?.choice ?? chooser.choose(file);
    if (choice.same !== undefined) return planFile(this.#layer, file, this.#options, choice);
    const { parts: opened } = prepared ?? (await this.#open(index, choice, workerBytes, machines));
    if (opened === undefined) return planFile(this.#layer, file, this.#options, choice);
    const source = choice.similar[0];
    const sourceParts = source && (await this.#openSource(source.content, opened));
    const bases = source && new Bases(source, sourceParts, this.#options.store.spool.path);
    const parts: PlannedPart[] = [];
    for (const part of opened) {
      if (part.kind === 'copied') parts.push(part);
      else parts.push(await this.#planPart(file, part, bases?.next(part)));
    }
    return { kind: 'opened', parts };
  }

  /**
   * Opens a file by its number, with encoders that take at most so many bytes of memory, and those
   * that are tried later.
   */
  async #open(
    index: number,
    { similar }: SourceChoice,
    memoryBytes: number,
    machines: Recompression,
    laterBytes = 0,
  ): Promise<{ readonly parts: readonly FoundPart[] | undefined; readonly dearest: number }> {
    const { pool, folder, recipes } = this.#options;
    const file = this.#layer.files.at(index) as TargetFile;
    const { offset, size, facts } = file;
    const copies = await this.#copies.ofFile(index, file);
    const { parts, dearest } = await pool.run({
      ...{ kind: 'open', file: this.#layer.spool.path, folder },
      ...{ stretch: { offset, size }, maxBytes: this.#allowed(size) },
      closed: copies.map((copy) => copy.offset),
      // A parse is worth something only beside the one before.
      withParses: similar.length > 0,
      prove: {
        maxMemoryBytes: Math.min(memoryBytes, encoderBytes(machines)),
        ...{ machines, known: recipes.get(facts.sha256), laterBytes },
      },
    });
    recipes.add(facts.sha256, parts ?? []);
    this.#count(parts ?? []);
    return { parts: withCopies(parts, copies, size), dearest };
  }

  async #planPart(file: TargetFile, part: OpenedPart, at: Place | undefined): Promise<PlannedPart> {
    if (part.kind === 'raw') return this.#planRaw(file, part, at);
    const found = await this.#like(part.content, at);
    if (isParsed(part) && (found?.cost ?? Infinity) > MAX_PARSED_COST * part.size) {
      return this.#planRaw(file, part, undefined);
    }
    const like = found?.like;
    const shared = part.members.flatMap(({ offset, size, sha256 }) => {
      const file = this.#changed.holding(sha256);
      return file === undefined ? [] : [{ offset, size, file }];
    });
    return { kind: 'packed', stream: part, shared, ...(like === undefined ? {} : { like }) };
  }

  async #planRaw(file: TargetFile, { offset, size }: Stretch, at: Place | undefined) {
    const fresh = { file: this.#layer.spool.path, offset: file.offset + offset, size };
    const found = await this.#like(fresh, at);
    const like = found === undefined ? {} : { like: found.like };
    return { kind: 'raw' as const, offset, size, ...like };
  }

  /** How a stretch is like its base, and what it would cost, in bytes before they are packed. */
  async #like(
    fresh: SpooledStretch,
    at: Place | undefined,
  ): Promise<{ readonly like: Likeness; readonly cost: number } | undefined> {
    if (at === undefined || Math.min(fresh.size, at.within.size) < MIN_MATCHED) return undefined;
    const { base, within } = at;
    const { pool, workerBytes, effort } = this.#options;
    const found: FoundMatches | undefined = await pool.run({
      ...{ kind: 'match', oldFile: base.spooled.file, candidates: [within] },
      ...{ newFile: fresh.file, fresh, endsOnly: false, memoryBytes: workerBytes },
      chain: effort.chain,
    });
    if (found === undefined) return undefined;
    const { matches, cost } = found;
    const skipped = within.offset - base.spooled.offset;
    for (let i = 0; i < matches.length; i += 3) matches[i] = (matches[i] ?? 0) + skipped;
    return { like: { base, matches }, cost };
  }

  /** The parts of what a file is like; each is opened once in the same way. */
  async #openSource(
    { offset, size, index }: SourceContent,
    forParts: readonly FoundPart[],
  ): Promise<readonly OpenedPart[] | undefined> {
    const withParses = forParts.some(isParsed);
    const copies = forParts.filter((part) => part.kind === 'copied');
    const closed = await this.#copies.counterparts({ offset, size }, copies);
    const key = [index, withParses, ...closed].join();
    const known = this.#opened.get(key);
    if (known !== undefined) return known;
    const { pool, store, folder } = this.#options;
    const opening = pool
      .run({
        ...{ kind: 'open', file: store.spool.path, stretch: { offset, size }, folder },
        ...{ maxBytes: this.#allowed(size), withParses, closed },
      })
      .then(({ parts }) => {
        this.#count(parts ?? []);
        return parts;
      });
    this.#opened.set(key, opening);
    return opening;
  }

  #count(parts: readonly OpenedPart[]): void {
    for (const part of parts) {
      if (part.kind !== 'packed') continue;
      this.#options.onSpooled(part.content.size);
      this.#allowance -= part.content.size;
    }
  }

  /** Most bytes that a file of a size may hold. */
  #allowed(size: number): number {
    return Math.max(0, Math.min(this.#allowance, MAX_OPENED.any + MAX_OPENED.file * size));
  }
}

function isParsed(part: FoundPart): boolean {
  return part.kind === 'packed' && part.format === 'zstd-parse';
}

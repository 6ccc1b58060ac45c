import type { SourceFile, SourceTree } from '../piece.ts';
import type { WorkFile } from '../workspace.ts';
import { applyLayerDelta, type DeltaStep, type Recompressor } from './reader.ts';

/** For what the bytes of a delta go. */
export const COST_KINDS = ['patched', 'recompressed', 'new', 'headers', 'other'] as const;
export type CostKind = (typeof COST_KINDS)[number];

/** Packed bytes that a file of the target takes. */
export type FileCost = { readonly path: string; readonly kind: CostKind; readonly bytes: number };

/** Where the bytes of a layer delta go; about, as its streams are packed over many files. */
export type LayerCosts = {
  readonly kinds: Readonly<Record<CostKind, number>>;
  /** Largest first. */
  readonly files: readonly FileCost[];
};

/** Content counts as new when so much of what it takes is content from no source. */
const NEW_SHARE = 0.9;

/**
 * Tells where the bytes of a layer delta go, without the source's files; `openHeaders` finds the
 * headers of its layers. Throws DELTA_INVALID and what `openHeaders` throws.
 */
export async function explainLayerDelta(
  delta: AsyncIterable<Uint8Array>,
  openHeaders: SourceTree['openHeaders'],
): Promise<LayerCosts> {
  const ledger = new Ledger();
  const source: SourceTree = {
    open: (path) => zeros(path, Number.MAX_SAFE_INTEGER),
    ...(openHeaders === undefined ? {} : { openHeaders }),
    close() {},
  };
  const pieces = applyLayerDelta(delta, {
    ...{ source, isDry: true, recompressor: ZERO_RECOMPRESSOR, workspace: NO_ROOM },
    observe: (step, used) => ledger.take(step, used),
  });
  for await (const _ of pieces);
  return ledger.costs();
}

/** Books what each step took to a file: a part to the file that was last made of it. */
class Ledger {
  readonly #files = new Map<string, Map<CostKind, number>>();
  readonly #parts = new Map<number, number>();
  readonly #packedInto = new Map<number, number>();
  readonly #encoded = new Set<number>();
  readonly #other: Partial<Record<CostKind, number>> = {};
  #all = 0;
  #literals = 0;
  #path = '';

  take(step: DeltaStep, used: { readonly all: number; readonly literals: number }): void {
    const cost = used.all - this.#all;
    const literals = used.literals - this.#literals;
    this.#all = used.all;
    this.#literals = used.literals;
    if (step.kind === 'headers') {
      this.#path = step.path;
      this.#book('headers', cost);
    } else if (step.kind === 'content') {
      this.#book(literals > cost * NEW_SHARE ? 'new' : 'patched', cost);
    } else if (step.kind === 'part') {
      this.#parts.set(step.part, cost);
      if (step.from !== undefined) {
        this.#packedInto.set(step.from, step.part);
        this.#encoded.add(step.part);
      }
    } else if (step.kind === 'free') this.#free(step.part);
    else this.#other.other = (this.#other.other ?? 0) + cost;
  }

  costs(): LayerCosts {
    const kinds = Object.fromEntries(COST_KINDS.map((kind) => [kind, this.#other[kind] ?? 0]));
    const files: FileCost[] = [];
    for (const [path, costs] of this.#files) {
      const [kind = 'other'] = [...costs].sort((a, b) => b[1] - a[1])[0] ?? [];
      let bytes = 0;
      for (const [one, cost] of costs) {
        bytes += cost;
        kinds[one] = (kinds[one] ?? 0) + cost;
      }
      files.push({ path, kind, bytes: Math.round(bytes) });
    }
    for (const kind of COST_KINDS) kinds[kind] = Math.round(kinds[kind] ?? 0);
    files.sort((a, b) => b.bytes - a.bytes);
    return { kinds: kinds as Record<CostKind, number>, files };
  }

  #free(part: number): void {
    const cost = this.#parts.get(part) ?? 0;
    this.#parts.delete(part);
    const into = this.#packedInto.get(part);
    const heir = into === undefined ? undefined : this.#parts.get(into);
    if (into !== undefined && heir !== undefined) this.#parts.set(into, heir + cost);
    else this.#book(this.#encoded.delete(part) ? 'recompressed' : 'patched', cost);
  }

  #book(kind: CostKind, cost: number): void {
    let costs = this.#files.get(this.#path);
    if (costs === undefined) {
      costs = new Map();
      this.#files.set(this.#path, costs);
    }
    costs.set(kind, (costs.get(kind) ?? 0) + cost);
  }
}

function zeros(path: string, size: number): SourceFile {
  const read = (target: Uint8Array) => {
    target.fill(0);
    return target.length;
  };
  return { path, size, read };
}

const NO_ROOM = {
  create(): WorkFile {
    return { write() {}, read: (target) => zeros('', 0).read(target, 0), close() {} };
  },
};

async function* zeroBytes(size: number): AsyncGenerator<Uint8Array, void, void> {
  const chunk = new Uint8Array(256 * 1024);
  for (let left = size; left > 0; left -= chunk.length) yield chunk.subarray(0, left);
}

const ZERO_RECOMPRESSOR: Recompressor = {
  unpack: (_method, _packed, size) => zeroBytes(size),
  encode: (_recipe, _content, size) => zeroBytes(size),
};

/** Canonical codes by symbol: bit length, and the code with its bits in sending order. */
export type Codes = { readonly lengths: Uint8Array; readonly codes: Uint16Array };

const LONGEST = 15;

function reversed(code: number, length: number): number {
  let result = 0;
  for (let bit = 0; bit < length; bit++) result |= ((code >> bit) & 1) << (length - 1 - bit);
  return result;
}

/** Assigns canonical codes to lengths (RFC 1951, section 3.2.2). */
export function assignCodes(lengths: Uint8Array, count: number, codes: Uint16Array): void {
  const next = new Uint16Array(LONGEST + 2);
  for (let symbol = 0; symbol < count; symbol++) {
    const length = lengths[symbol] as number;
    if (length > 0) next[length + 1] = (next[length + 1] as number) + 1;
  }
  for (let length = 1, code = 0; length <= LONGEST; length++) {
    code = (code + (next[length] as number)) << 1;
    next[length] = code;
  }
  for (let symbol = 0; symbol < count; symbol++) {
    const length = lengths[symbol] as number;
    if (length === 0) continue;
    const code = next[length] as number;
    next[length] = code + 1;
    codes[symbol] = reversed(code, length);
  }
}

/** The codes of fixed Huffman blocks (RFC 1951, section 3.2.6). */
export function fixedCodes(lengths: Uint8Array): Codes {
  const codes = new Uint16Array(lengths.length);
  assignCodes(lengths, lengths.length, codes);
  return { lengths, codes };
}

/** What the codes of one alphabet cost. */
export type TreeShape = {
  readonly symbols: number;
  /** Extra bits by symbol, counted from `extraBase`. */
  readonly extraBits: Uint8Array;
  readonly extraBase: number;
  readonly maxLength: number;
  readonly fixed: Codes | undefined;
};

/**
 * A Huffman tree built as gzip and zlib build it: among equal weights the order depends on the
 * layout of the heap and on the depth of the subtrees, and lengths beyond the limit are shortened
 * in one particular way. Any other optimal tree would give other bytes.
 */
export class HuffmanTree implements Codes {
  /** How often each symbol occurs; the caller counts, {@link HuffmanTree.reset} clears. */
  readonly counts: Uint16Array;
  readonly lengths: Uint8Array;
  readonly codes: Uint16Array;
  /** Largest symbol that occurs. */
  lastSymbol = -1;
  /** Bits of all symbols counted, extra bits included, with this tree and with the fixed one. */
  bits = 0;
  fixedBits = 0;

  readonly #shape: TreeShape;
  readonly #weights: Uint32Array;
  readonly #parents: Uint16Array;
  readonly #depths: Uint8Array;
  readonly #nodeLengths: Uint8Array;
  readonly #heap: Uint16Array;
  #heapSize = 0;

  constructor(shape: TreeShape) {
    const nodes = 2 * shape.symbols + 1;
    this.#shape = shape;
    this.counts = new Uint16Array(shape.symbols);
    // One more than there are symbols: readers of runs look one symbol ahead.
    this.lengths = new Uint8Array(shape.symbols + 1);
    this.codes = new Uint16Array(shape.symbols);
    this.#weights = new Uint32Array(nodes);
    this.#parents = new Uint16Array(nodes);
    this.#depths = new Uint8Array(nodes);
    this.#nodeLengths = new Uint8Array(nodes);
    this.#heap = new Uint16Array(nodes);
  }

  reset(): void {
    this.counts.fill(0);
  }

  /** Computes lengths, codes and costs from the counts. */
  build(): void {
    this.bits = 0;
    this.fixedBits = 0;
    this.#collectLeaves();
    const order = this.#joinNodes();
    this.#measure(order);
    assignCodes(this.lengths, this.lastSymbol + 1, this.codes);
  }

  #collectLeaves(): void {
    const { counts, lengths } = this;
    const weights = this.#weights;
    const heap = this.#heap;
    this.#heapSize = 0;
    this.lastSymbol = -1;
    lengths.fill(0);
    for (let symbol = 0; symbol < counts.length; symbol++) {
      const count = counts[symbol] as number;
      weights[symbol] = count;
      if (count === 0) continue;
      heap[++this.#heapSize] = symbol;
      this.lastSymbol = symbol;
      this.#depths[symbol] = 0;
    }
    // Two codes at least, so that every symbol takes a bit; the forced ones cost nothing.
    while (this.#heapSize < 2) {
      const symbol = this.lastSymbol < 2 ? ++this.lastSymbol : 0;
      heap[++this.#heapSize] = symbol;
      weights[symbol] = 1;
      this.#depths[symbol] = 0;
      this.bits--;
      this.fixedBits -= this.#shape.fixed?.lengths[symbol] ?? 0;
    }
  }

  #comesBefore(a: number, b: number): boolean {
    const weightA = this.#weights[a] as number;
    const weightB = this.#weights[b] as number;
    if (weightA !== weightB) return weightA < weightB;
    return (this.#depths[a] as number) <= (this.#depths[b] as number);
  }

  #sink(start: number): void {
    const heap = this.#heap;
    const size = this.#heapSize;
    const node = heap[start] as number;
    let at = start;
    for (let child = at << 1; child <= size; child = at << 1) {
      if (child < size && this.#comesBefore(heap[child + 1] as number, heap[child] as number)) {
        child++;
      }
      if (this.#comesBefore(node, heap[child] as number)) break;
      heap[at] = heap[child] as number;
      at = child;
    }
    heap[at] = node;
  }

  /** Joins the two lightest nodes until one is left; returns all nodes, the root first. */
  #joinNodes(): number[] {
    const heap = this.#heap;
    const weights = this.#weights;
    const depths = this.#depths;
    const taken: number[] = [];
    let node = this.#shape.symbols;
    for (let at = this.#heapSize >> 1; at >= 1; at--) this.#sink(at);
    do {
      const first = heap[1] as number;
      heap[1] = heap[this.#heapSize--] as number;
      this.#sink(1);
      const second = heap[1] as number;
      taken.push(first, second);
      weights[node] = (weights[first] as number) + (weights[second] as number);
      depths[node] = Math.max(depths[first] as number, depths[second] as number) + 1;
      this.#parents[first] = node;
      this.#parents[second] = node;
      heap[1] = node++;
      this.#sink(1);
    } while (this.#heapSize >= 2);
    taken.push(heap[1] as number);
    return taken.reverse();
  }

  #measure(order: readonly number[]): void {
    const { symbols, maxLength, extraBits, extraBase, fixed } = this.#shape;
    const perLength = new Uint16Array(LONGEST + 1);
    const nodeLengths = this.#nodeLengths;
    let tooLong = 0;
    nodeLengths[order[0] as number] = 0;
    for (let index = 1; index < order.length; index++) {
      const node = order[index] as number;
      let length = (nodeLengths[this.#parents[node] as number] as number) + 1;
      if (length > maxLength) {
        length = maxLength;
        tooLong++;
      }
      nodeLengths[node] = length;
      if (node >= symbols) continue;
      perLength[length] = (perLength[length] as number) + 1;
      this.lengths[node] = length;
      const extra = node >= extraBase ? (extraBits[node - extraBase] as number) : 0;
      const count = this.#weights[node] as number;
      this.bits += count * (length + extra);
      if (fixed !== undefined) this.fixedBits += count * ((fixed.lengths[node] as number) + extra);
    }
    if (tooLong > 0) this.#shorten(order, perLength, tooLong);
  }

  /** Brings lengths within the limit, and deals them out anew, the longest to the lightest. */
  #shorten(order: readonly number[], perLength: Uint16Array, tooLong: number): void {
    const { symbols, maxLength } = this.#shape;
    const change = (length: number, by: number) => {
      perLength[length] = (perLength[length] as number) + by;
    };
    for (let left = tooLong; left > 0; left -= 2) {
      let length = maxLength - 1;
      while (perLength[length] === 0) length--;
      change(length, -1);
      change(length + 1, 2);
      change(maxLength, -1);
    }
    let index = order.length;
    for (let length = maxLength; length > 0; length--) {
      for (let left = perLength[length] as number; left > 0; ) {
        const node = order[--index] as number;
        if (node >= symbols) continue;
        this.bits += (length - (this.lengths[node] as number)) * (this.#weights[node] as number);
        this.lengths[node] = length;
        left--;
      }
    }
  }
}

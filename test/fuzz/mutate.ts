/** A generator of numbers that are the same for the same seed. */
export class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 0;
  }
  below(count: number): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) | 0;
    return Math.floor(((this.#state >>> 8) / 2 ** 24) * count);
  }
}

/** Changes one to three places of an input; `words` are what its format is made of. */
export function mutate(bytes: Buffer, dice: Dice, words: readonly Buffer[] = []): Buffer {
  let found: Buffer = Buffer.from(bytes);
  for (let count = 1 + dice.below(3); count > 0; count -= 1) found = change(found, dice, words);
  return found;
}

function change(found: Buffer, dice: Dice, words: readonly Buffer[]): Buffer {
  const at = dice.below(found.length + 1);
  switch (dice.below(words.length > 0 ? 7 : 5)) {
    case 0:
      if (at < found.length) found[at] = dice.below(256);
      return found;
    case 1:
      if (at < found.length) found[at] = (found[at] ?? 0) ^ (1 << dice.below(8));
      return found;
    case 2:
      return Buffer.concat([found.subarray(0, at), found.subarray(at + 1 + dice.below(4))]);
    case 3: {
      const more = Buffer.from(Array.from({ length: 1 + dice.below(4) }, () => dice.below(256)));
      return insert(found, at, more);
    }
    case 4: {
      const from = dice.below(found.length + 1);
      return insert(found, at, found.subarray(from, from + dice.below(12)));
    }
    case 5:
      return insert(found, at, words[dice.below(words.length)] ?? Buffer.alloc(0));
    default: {
      const word = words[dice.below(words.length)] ?? Buffer.alloc(0);
      return Buffer.concat([found.subarray(0, at), word, found.subarray(at + word.length)]);
    }
  }
}

function insert(found: Buffer, at: number, more: Uint8Array): Buffer {
  return Buffer.concat([found.subarray(0, at), more, found.subarray(at)]);
}

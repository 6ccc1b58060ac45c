/**
 * Content that is the same for ever: words of a small vocabulary, numbers, zeros, random runs and
 * copies from before, by a linear congruential generator.
 */
export function generatedContent(size: number, seed = 1): Buffer {
  const words = ['kernel', ' module', '\n', ' of', ' the', ' system', '.TP', ' 0x', 'e', 'st'];
  const content = Buffer.alloc(size);
  let state = seed;
  const random = (limit: number) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % limit;
  };
  for (let at = 0; at < size; ) {
    const kind = random(20);
    const length = Math.min(1 + random(kind === 0 ? 60_000 : 400), size - at);
    if (kind < 3 && at > 0) {
      content.copyWithin(at, random(at), Math.min(at, size - length) + length);
      at += length;
    } else if (kind === 3) {
      for (const end = at + length; at < end; at++) content[at] = random(256);
    } else if (kind === 4) {
      at += length;
    } else {
      for (let count = 1 + random(60); count > 0 && at < size; count--) {
        at += content.write(words[random(words.length)] as string, at);
      }
    }
  }
  return content;
}

import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PackingWriter, PlainWriter } from '../../../host-client/storage/content-writer.ts';
import type { SendCommand } from '../../../shared/send-stream/format.ts';

const BLOCK = 4096;

/** What the kernel makes of the commands, by its own rules for encoded writes. */
function play(commands: readonly SendCommand[], size: number): Buffer {
  const content = Buffer.alloc(size);
  for (const command of commands) {
    if (command.op === 'write') content.set(command.data, command.offset);
    else if (command.op === 'encodedWrite') {
      const data = zstdDecompressSync(command.data);
      expect(command).toMatchObject({ compression: 2, unencodedOffset: 0 });
      expect(command.fileLength).toBe(data.length);
      expect(command.unencodedLength).toBe(data.length);
      expect(data.length).toBeLessThanOrEqual(128 * 1024);
      expect(command.offset % BLOCK).toBe(0);
      const end = command.offset + data.length;
      expect(end === size || end % BLOCK === 0).toBe(true);
      const blocks = (bytes: number) => (size <= 2048 ? bytes : Math.ceil(bytes / BLOCK));
      expect(blocks(command.data.length)).toBeLessThan(blocks(data.length));
      content.set(data, command.offset);
    } else throw new Error(`unexpected ${command.op}`);
  }
  return content;
}

/** Text in some places, noise in others. */
function contentOf(size: number, seed: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0, x = seed; i < size; i += 1) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) >>> 0;
    bytes[i] = (i >> 14) % 3 === 0 ? x >>> 16 : i >> 8;
  }
  return bytes;
}

function write(file: { size: number; seed: number; cuts: readonly number[] }, holes = false) {
  const { size, seed, cuts } = file;
  const commands: SendCommand[] = [];
  const writer = new PackingWriter((command) => {
    commands.push('data' in command ? { ...command, data: Buffer.from(command.data) } : command);
  });
  const content = contentOf(size, seed);
  const at = [...new Set(cuts.map((cut) => Math.floor(cut * size)))].sort((a, b) => a - b);
  const target = { path: 'f', size };
  for (const [i, start] of [0, ...at].entries()) {
    const end = at[i] ?? size;
    if (holes && i % 2 === 1) content.fill(0, start, end);
    else {
      const bytes = Buffer.from(content.subarray(start, end));
      writer.write(target, bytes, start);
      bytes.fill(0xee); // May be used again at once.
    }
  }
  writer.flush();
  return { commands, content, written: writer.bytesWritten };
}

const files = fc.record({
  size: fc.oneof(fc.nat(2048), fc.nat(20_000), fc.nat(400_000)),
  seed: fc.nat(),
  cuts: fc.array(fc.float({ min: 0, max: 1, noNaN: true }), { maxLength: 6 }),
});

describe('content that is compressed', () => {
  it('is the content that was written, in pieces that the kernel takes', () => {
    fc.assert(
      fc.property(files, fc.boolean(), (file, holes) => {
        const { commands, content } = write(file, holes);
        expect(play(commands, file.size).equals(content)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('is counted as what goes to the disk', () => {
    const { commands, written } = write({ size: 300_000, seed: 1, cuts: [0.3] });
    const bytes = commands.map((command) => ('data' in command ? command.data.length : 0));
    expect(written).toBe(bytes.reduce((a, b) => a + b));
    expect(written).toBeLessThan(200_000);
  });

  it('stays as it is where nothing is saved', () => {
    const random = Buffer.alloc(4 * 128 * 1024);
    for (let i = 0, x = 1; i < random.length; i += 1) {
      x = (Math.imul(x, 1_103_515_245) + 12_345) >>> 0;
      random[i] = x >>> 16;
    }
    for (const content of [random, Buffer.alloc(BLOCK)]) {
      const commands: SendCommand[] = [];
      const writer = new PackingWriter((command) => commands.push(command));
      writer.write({ path: 'f', size: content.length }, content, 0);
      writer.flush();
      expect(new Set(commands.map(({ op }) => op))).toEqual(new Set(['write']));
    }
  });
});

describe('content that is not compressed', () => {
  it('is cut into what a command of version 1 holds', () => {
    const commands: SendCommand[] = [];
    const writer = new PlainWriter((command) => commands.push(command));
    const content = contentOf(100_000, 3);
    writer.write({ path: 'f', size: content.length }, content, 0);
    expect(commands).toHaveLength(3);
    expect(play(commands, content.length).equals(content)).toBe(true);
    expect(writer.bytesWritten).toBe(100_000);
  });
});

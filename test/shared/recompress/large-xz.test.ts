import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { findEncoders } from '../../../gateway/delta/zstd-program.ts';
import { readLiblzma } from '../../../host-client/update/liblzma-file.ts';
import { createEncoders, type Encoders, recipeCost } from '../../../shared/recompress/encoders.ts';
import { bytesSource, type PackedPart } from '../../../shared/recompress/part.ts';
import { findRecipe } from '../../../shared/recompress/prove.ts';
import { xzFormat } from '../../../shared/recompress/xz/format.ts';
import { openLargeLiblzma } from '../../../shared/recompress/xz/large-liblzma.ts';
import { contentIn } from '../../support/bytes.ts';

const MIB = 1024 ** 2;
const KERNEL = ['--check=crc32', '--x86', '--lzma2=dict=32MiB'];

let encoders: Encoders;
beforeAll(async () => {
  encoders = await findEncoders();
});

/** Content that packs quickly and well, but not beyond all measure. */
function sparse(size: number): Buffer {
  const content = Buffer.alloc(size);
  for (let at = 0; at < size; at += 16_384) {
    createHash('sha256').update(String(at)).digest().copy(content, at);
  }
  return content;
}

function packed(content: Uint8Array, args: readonly string[]) {
  const bytes = execFileSync('xz', ['-c', ...args], { input: content, maxBuffer: 1 << 28 });
  const part: PackedPart = { kind: 'packed', offset: 0, size: bytes.length, format: 'xz' };
  return { source: bytesSource(bytes), part };
}

const noXz = spawnSync('xz', ['--version']).status !== 0;

describe('xz beyond what the common liblzma has memory for', () => {
  it('is matched with the dictionary of kernel images', async (ctx) => {
    ctx.skip(noXz, 'xz is not installed');
    const content = sparse(3 * MIB);
    const { source, part } = packed(content, KERNEL);
    const budget = { maxMemoryBytes: 2 ** 30 };
    const recipe = await findRecipe(encoders, source, part, contentIn(content), budget);
    expect(recipe?.settings).toMatchObject({ dictionary: 32 * MIB, filter: 4, preset: 6 });
    if (recipe === undefined) return;
    expect(recipeCost(encoders, recipe, content.length).memoryBytes).toBe(12 * 32 * MIB + 13 * MIB);
  });

  it('is matched with a large block', async (ctx) => {
    ctx.skip(noXz, 'xz is not installed');
    const content = sparse(104 * MIB);
    const { source, part } = packed(content, ['-2']);
    const budget = { maxMemoryBytes: 2 ** 30 };
    const recipe = await findRecipe(encoders, source, part, contentIn(content), budget);
    expect(recipe?.settings).toMatchObject({ dictionary: 2 * MIB, preset: 2 });
  });

  it('is left alone where it takes more than machines have', async (ctx) => {
    ctx.skip(noXz, 'xz is not installed');
    const content = sparse(3 * MIB);
    const { source, part } = packed(content, KERNEL);
    const dearer: number[] = [];
    const recipe = await findRecipe(encoders, source, part, contentIn(content), {
      maxMemoryBytes: 256 * MIB,
      onDearer: (bytes) => dearer.push(bytes),
    });
    expect([recipe, dearer[0]]).toEqual([undefined, 12 * 32 * MIB + 13 * MIB]);
  });

  it('has no recipe with blocks or dictionaries that are larger still', (ctx) => {
    ctx.skip(noXz, 'xz is not installed');
    const names = [...encoders.keys()];
    const propose = (content: Uint8Array, args: readonly string[]) => {
      const { source, part } = packed(content, args);
      return xzFormat.propose(source, part, names);
    };
    expect(propose(sparse(129 * MIB), ['-1'])).toEqual([]);
    expect(propose(sparse(MIB), ['--lzma2=dict=33MiB'])).toEqual([]);
    expect(propose(sparse(MIB), KERNEL)).not.toEqual([]);
  });

  it('is refused by a process that gave it no WebAssembly', async (ctx) => {
    ctx.skip(noXz, 'xz is not installed');
    const content = sparse(3 * MIB);
    const { source, part } = packed(content, KERNEL);
    const budget = { maxMemoryBytes: 2 ** 30 };
    await expect(
      findRecipe(createEncoders(), source, part, contentIn(content), budget),
    ).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

describe('a liblzma of its own', () => {
  it('has the memory that was asked for, up to a gibibyte', async () => {
    const sizes = [];
    for (const bytes of [MIB, 300 * MIB, 4096 * MIB]) {
      sizes.push((await openLargeLiblzma(readLiblzma, bytes)).HEAPU8.length);
    }
    expect(sizes).toEqual([MIB, 300 * MIB, 1024 * MIB - 65_536]);
  });

  it('is not made of another build', async () => {
    const wasm = await readLiblzma();
    const asked = (bytes: Uint8Array) =>
      openLargeLiblzma(() => Promise.resolve(bytes), 300 * MIB).then(
        () => 'opened',
        (error: { code?: string }) => error.code,
      );
    const at = Buffer.from(wasm).indexOf(Buffer.from('0505010110', 'hex'));
    const changed = (offset: number, byte: number) => {
      const copy = new Uint8Array(wasm);
      copy[at + offset] = byte;
      return copy;
    };
    expect(at).toBeGreaterThan(0);
    expect(await asked(wasm)).toBe('opened');
    // No maximum; two memories; a number that goes on; no memory section at all; nothing.
    expect(await asked(changed(3, 0))).toBe('UNSUPPORTED');
    expect(await asked(changed(2, 2))).toBe('UNSUPPORTED');
    expect(await asked(changed(4, 0x90))).toBe('UNSUPPORTED');
    expect(await asked(changed(0, 0))).toBe('UNSUPPORTED');
    expect(await asked(wasm.subarray(0, 40))).toBe('UNSUPPORTED');
  });
});

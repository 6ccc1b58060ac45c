import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { entryFileName, parseEntryFileName } from '../../../host-client/boot/entry.ts';
import { formatGrubenv, parseGrubenv } from '../../../host-client/boot/grubenv.ts';
import { findKernel } from '../../../host-client/boot/kernel.ts';
import { SystemdBoot } from '../../../host-client/boot/systemd-boot.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'boot-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const boot = () => join(folder, 'boot');
const entries = () => readdirSync(join(boot(), 'loader/entries')).sort();
const files = () => readdirSync(join(boot(), 'snapgate')).sort();

async function request(id: string, kernel = `kernel of ${id}`) {
  const root = join(folder, id);
  mkdirSync(join(root, 'usr/lib/modules/6.1.0-9'), { recursive: true });
  mkdirSync(join(root, 'boot'), { recursive: true });
  mkdirSync(boot(), { recursive: true });
  writeFileSync(join(root, 'boot/vmlinuz-6.1.0-9'), kernel);
  writeFileSync(join(root, 'boot/initrd.img-6.1.0-9'), `initrd of ${id}`);
  return { id, title: `System\n${id}`, kernel: await findKernel(root), options: 'root=LABEL=x' };
}

describe('systemd-boot', () => {
  it('writes an entry with tries, and the files that it names', async () => {
    const loader = new SystemdBoot(boot());
    await loader.add(await request('a'), 3);
    expect(entries()).toEqual(['snapgate-a+3.conf']);
    const text = readFileSync(join(boot(), 'loader/entries/snapgate-a+3.conf'), 'utf8');
    expect(text).toMatch(
      /^title System a\nsort-key snapgate\nversion 0000000001\nlinux (\S+)\ninitrd (\S+)\noptions root=LABEL=x\n$/,
    );
    const linux = /^linux (\S+)$/m.exec(text)?.[1] ?? '';
    expect(readFileSync(join(boot(), linux), 'utf8')).toBe('kernel of a');
  });

  it('offers the newest first, a failed one last, and a chosen one first again', async () => {
    const loader = new SystemdBoot(boot());
    await loader.add(await request('a'), 3);
    await loader.bless('a');
    await loader.add(await request('b'), 3);
    const order = async () => (await loader.list()).map(({ id }) => id);
    expect(await order()).toEqual(['b', 'a']);
    const at = (name: string) => join(boot(), 'loader/entries', name);
    renameSync(at('snapgate-b+3.conf'), at('snapgate-b+0-3.conf'));
    expect(await order()).toEqual(['a', 'b']);
    await loader.choose('b');
    expect(await order()).toEqual(['b', 'a']);
    expect(entries()).toEqual(['snapgate-a.conf', 'snapgate-b.conf']);
  });

  it('shares a kernel between deployments and removes it with the last', async () => {
    const loader = new SystemdBoot(boot());
    await loader.add(await request('a', 'same'), 3);
    await loader.add(await request('b', 'same'), 3);
    expect(files()).toHaveLength(3);
    expect(await loader.remove(['a'])).toBe('initrd of a'.length);
    expect(files()).toHaveLength(2);
    await loader.remove(['b']);
    expect([entries(), files()]).toEqual([[], []]);
  });

  it('clears what an interruption left, and touches nothing of others', async () => {
    const loader = new SystemdBoot(boot());
    await loader.add(await request('a'), 3);
    writeFileSync(join(boot(), 'loader/entries/debian.conf'), 'title Debian\n');
    writeFileSync(join(boot(), 'loader/entries/snapgate-b+3.conf.part'), 'title');
    writeFileSync(join(boot(), 'snapgate/0000-linux.part'), 'half');
    await loader.add(await request('c'), 3);
    expect(entries()).toEqual(['debian.conf', 'snapgate-a+3.conf', 'snapgate-c+3.conf']);
    expect(files()).toHaveLength(4);
  });

  it('blesses once and again', async () => {
    const loader = new SystemdBoot(boot());
    await loader.add(await request('a'), 3);
    await loader.bless('a');
    await loader.bless('a');
    expect(entries()).toEqual(['snapgate-a.conf']);
    await expect(loader.bless('b')).rejects.toMatchObject({ code: 'BOOT_INVALID' });
  });

  it('reads back every name of an entry', () => {
    for (const tries of [undefined, { left: 3, done: 0 }, { left: 0, done: 12 }]) {
      expect(parseEntryFileName(entryFileName('a-1', tries))).toEqual({ id: 'a-1', tries });
    }
    for (const name of [
      'debian.conf',
      'snapgate-.conf',
      'snapgate-a+x.conf',
      'snapgate-a.conf.part',
    ]) {
      expect(parseEntryFileName(name)).toBeUndefined();
    }
  });
});

describe('the kernel of an image', () => {
  it('is the newest, and never a link out of the image', async () => {
    const { kernel } = await request('a');
    expect(kernel).toMatchObject({ kind: 'linux', version: '6.1.0-9' });
    const root = join(folder, 'a');
    mkdirSync(join(root, 'usr/lib/modules/6.1.0-10'));
    symlinkSync('/etc/hostname', join(root, 'boot/vmlinuz-6.1.0-10'));
    writeFileSync(join(root, 'boot/initrd.img-6.1.0-10'), 'x');
    expect(await findKernel(root)).toMatchObject({ version: '6.1.0-9' });
    rmSync(join(root, 'boot/vmlinuz-6.1.0-10'));
    writeFileSync(join(root, 'boot/vmlinuz-6.1.0-10'), 'x');
    expect(await findKernel(root)).toMatchObject({ version: '6.1.0-10' });
    writeFileSync(join(root, 'usr/lib/modules/6.1.0-10/vmlinuz.efi'), 'x');
    expect(await findKernel(root)).toMatchObject({ kind: 'uki', version: '6.1.0-10' });
  });

  it('must be there', async () => {
    await expect(findKernel(folder)).rejects.toMatchObject({ code: 'BOOT_INVALID' });
  });
});

describe('the environment block of GRUB', () => {
  it('comes back as it was written, in 1024 bytes', () => {
    const values = new Map([
      ['saved_entry', 'a'],
      ['boot_counter', '3'],
      ['odd', 'a\\b=c'],
    ]);
    const block = formatGrubenv(values);
    expect(block).toHaveLength(1024);
    expect(parseGrubenv(block)).toEqual(values);
  });

  it('refuses what is none and what does not fit', () => {
    expect(() => parseGrubenv(Buffer.alloc(1024))).toThrow('not a GRUB environment block');
    expect(() => formatGrubenv(new Map([['a', 'b'.repeat(1024)]]))).toThrow('too many');
  });
});

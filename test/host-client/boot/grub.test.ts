import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Grub } from '../../../host-client/boot/grub.ts';
import { formatGrubMenu, grubConfig } from '../../../host-client/boot/grub-menu.ts';
import { parseGrubenv } from '../../../host-client/boot/grubenv.ts';
import { hasProgram } from '../../support/has-program.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'grub-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const boot = () => join(folder, 'boot');
const environmentFile = () => join(boot(), 'snapgate/grubenv');
const environment = () => Object.fromEntries(parseGrubenv(readFileSync(environmentFile())));
const menu = () => readFileSync(join(boot(), 'snapgate/menu.cfg'), 'utf8');
const offered = () => [...menu().matchAll(/--id 'snapgate-([^']+)'/g)].map((match) => match[1]);

function request(id: string) {
  const [linux, initrd] = [join(folder, `${id}-linux`), join(folder, `${id}-initrd`)];
  mkdirSync(boot(), { recursive: true });
  writeFileSync(linux, `kernel of ${id}`);
  writeFileSync(initrd, `initrd of ${id}`);
  const kernel = { kind: 'linux' as const, version: '6.1', linux, initrd };
  return { id, title: `System ${id}`, kernel, options: 'root=UUID=x ro quiet' };
}

/** What grub.cfg does to the environment block before it boots; gives what that is. */
function bootOnce(): string | undefined {
  const values = environment();
  const left = Number(values.boot_counter ?? 0);
  if (values.next_entry === undefined || values.boot_success === '1' || left === 0) {
    return values.saved_entry;
  }
  const change = ['grub-editenv', environmentFile(), 'set', `boot_counter=${left - 1}`] as const;
  execFileSync(change[0], change.slice(1));
  return values.next_entry;
}

describe('GRUB', () => {
  it('tries a new deployment as often as was said, then boots the one before', async (context) => {
    context.skip(!hasProgram('grub-editenv'), 'grub-editenv is not installed');
    const loader = new Grub(boot());
    await loader.add(request('a'), 2);
    expect(bootOnce()).toBe('a');
    await loader.bless('a');
    expect(environment()).toEqual({ saved_entry: 'a', boot_success: '1' });
    await loader.add(request('b'), 2);
    expect(environment()).toEqual({
      ...{ saved_entry: 'a', next_entry: 'b', boot_counter: '2', boot_success: '0' },
    });
    expect(offered()).toEqual(['b', 'a']);
    expect(await loader.list()).toMatchObject([{ id: 'b', tries: { left: 2 } }, { id: 'a' }]);
    expect([bootOnce(), bootOnce(), bootOnce()]).toEqual(['b', 'b', 'a']);
    expect(await loader.list()).toMatchObject([{ id: 'a' }, { id: 'b', tries: { left: 0 } }]);
  });

  it('keeps variables of others', async (context) => {
    context.skip(!hasProgram('grub-editenv'), 'grub-editenv is not installed');
    const loader = new Grub(boot());
    await loader.add(request('a'), 2);
    execFileSync('grub-editenv', [environmentFile(), 'set', 'kernelopts=a "b" c\\d']);
    await loader.bless('a');
    const text = execFileSync('grub-editenv', [environmentFile(), 'list'], { encoding: 'utf8' });
    expect(text.split('\n').sort()).toEqual([
      ...['', 'boot_success=1', 'kernelopts=a "b" c\\d', 'saved_entry=a'],
    ]);
  });

  it('boots what was chosen, and offers nothing that is gone', async () => {
    const loader = new Grub(boot());
    for (const id of ['a', 'b', 'c']) {
      await loader.add(request(id), 3);
      await loader.bless(id);
    }
    await loader.choose('b');
    expect(environment()).toEqual({ saved_entry: 'b', boot_success: '1' });
    expect((await loader.list()).map(({ id }) => id)).toEqual(['b', 'c', 'a']);
    const freed = await loader.remove(['c']);
    expect(freed).toBe('kernel of c'.length + 'initrd of c'.length);
    expect(offered()).toEqual(['b', 'a']);
    for (const [, file] of menu().matchAll(/(?:linux|initrd) '\/([^']+)'/g)) {
      expect(readFileSync(join(boot(), file ?? ''), 'utf8')).toMatch(/^(kernel|initrd) of [ab]$/);
    }
    await expect(loader.choose('c')).rejects.toMatchObject({ code: 'BOOT_INVALID' });
  });

  it('forgets what was tried when that is removed', async () => {
    const loader = new Grub(boot());
    await loader.add(request('a'), 3);
    await loader.bless('a');
    await loader.add(request('b'), 3);
    await loader.remove(['b']);
    expect(environment()).toEqual({ saved_entry: 'a', boot_success: '0' });
    expect((await loader.list()).map(({ id }) => id)).toEqual(['a']);
  });

  it('names what boots so that GRUB takes no name for the number of an entry', async () => {
    await new Grub(boot()).add(request('60ec4e1f7ceb-1'), 3);
    const id = / --id '([^']+)'/.exec(menu())?.[1] ?? '';
    expect(id).toMatch(/^[a-z].*60ec4e1f7ceb-1$/);
    const prefix = id.replace('60ec4e1f7ceb-1', '');
    for (const [, value] of grubConfig().matchAll(/set (?:default|fallback)="([^"]*)"/g)) {
      expect(['saved', 'next'].map((which) => `${prefix}$${which}_entry`)).toContain(value);
    }
  });

  it('makes a damaged environment block anew and leaves the files of GRUB alone', async () => {
    const loader = new Grub(boot());
    mkdirSync(join(boot(), 'snapgate'), { recursive: true });
    writeFileSync(environmentFile(), 'half');
    writeFileSync(join(boot(), 'snapgate/grub.cfg'), grubConfig());
    await loader.add(request('a'), 3);
    expect(environment()).toMatchObject({ saved_entry: 'a', next_entry: 'a' });
    expect(readdirSync(join(boot(), 'snapgate'))).toContain('grub.cfg');
  });

  it('understands what is written for it', (context) => {
    context.skip(!hasProgram('grub-script-check'), 'grub-script-check is not installed');
    const check = (text: string) => execFileSync('grub-script-check', { input: text });
    check(grubConfig());
    const common = { rank: 1, options: "quiet opt='a b' $x;y" };
    check(
      formatGrubMenu([
        { ...common, id: 'a', title: "it's\n}", linux: '/l', initrd: ['/i'] },
        { ...common, id: 'b', title: 'b', efi: '/e', initrd: [] },
      ]),
    );
    expect(() => check('if true; then')).toThrow();
  });
});

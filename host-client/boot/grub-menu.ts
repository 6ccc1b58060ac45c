import type { BootEntry } from './entry.ts';

/**
 * Before the id of a deployment in the menu. GRUB takes a default that begins with a digit, as most ids
 * do, for the number of an entry, and one that is too large for the first.
 */
const MENU_ID = 'snapgate-';
/** Most tries that `grub.cfg` can count. */
const MOST_TRIES = 99;

/**
 * GRUB's own configuration on the boot partition, the same for all machines and all versions. It
 * counts a try before it boots, and tries nothing that it cannot count: without that a version that
 * does not boot would be tried for ever.
 */
export function grubConfig(): string {
  const numbers = Array.from({ length: MOST_TRIES + 1 }, (_, i) => i).join(' ');
  return `# Written by snaphost install. Updates change menu.cfg and grubenv beside it.
set timeout=2
load_env
set default="${MENU_ID}$saved_entry"
if [ -n "$next_entry" -a "$boot_success" != 1 ]; then
  # GRUB has no arithmetic: the number before the counter's, where there is one.
  set left=
  set before=
  for number in ${numbers}; do
    if [ "$boot_counter" = "$number" ]; then set left="$before"; fi
    set before="$number"
  done
  if [ -n "$left" ]; then
    set boot_counter="$left"
    save_env boot_counter
    set boot_counter=
    load_env
    if [ "$boot_counter" = "$left" ]; then
      set default="${MENU_ID}$next_entry"
      set fallback="${MENU_ID}$saved_entry"
    fi
  fi
fi
source $prefix/menu.cfg
`;
}

/** Modules of GRUB that {@link grubConfig} and {@link formatGrubMenu} need, and those that find the disk. */
export const GRUB_MODULES = [
  ...['part_gpt', 'part_msdos', 'fat', 'normal', 'configfile', 'test', 'loadenv', 'search'],
  ...['linux', 'chain', 'boot', 'all_video', 'gfxterm', 'echo', 'reboot', 'halt', 'sleep'],
] as const;

/** The menu: one entry a deployment, in the given order. */
export function formatGrubMenu(entries: readonly BootEntry[]): string {
  return `# Written by snaphost at each update.\n${entries.map(formatMenuEntry).join('')}`;
}

function formatMenuEntry({ id, title, linux, efi, initrd, options }: BootEntry): string {
  const words = options.split(/\s+/).filter(Boolean).map(quote);
  const commands =
    efi === undefined
      ? [
          ['linux', quote(linux ?? ''), ...words],
          initrd.length > 0 ? ['initrd', ...initrd.map(quote)] : [],
        ]
      : [['chainloader', quote(efi), ...words]];
  const lines = commands
    .filter((words) => words.length > 0)
    .map((words) => `  ${words.join(' ')}\n`);
  return `menuentry ${quote(title)} --id ${quote(MENU_ID + id)} {\n${lines.join('')}}\n`;
}

/** GRUB's single quotes keep every character but themselves (GRUB manual, "Quoting"). */
function quote(text: string): string {
  return `'${text.replace(/[^\x20-\x7e]/g, ' ').replaceAll("'", "'\\''")}'`;
}

import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runProgramFile } from './run-program.ts';

const VENV = fileURLToPath(new URL('../../.cache/python-tuf', import.meta.url));
const PYTHON = join(VENV, 'bin/python');
/** The client of the TUF project itself, at one version. */
const PACKAGES = ['tuf==7.0.1', 'securesystemslib[crypto]==1.6.0'];

const SCRIPT = `
import sys
from tuf.ngclient import Updater
folder, base, root, path = sys.argv[1:]
updater = Updater(metadata_dir=folder, metadata_base_url=base + "/metadata/",
                  target_dir=folder, target_base_url=base + "/targets/",
                  bootstrap=open(root, "rb").read())
updater.refresh()
info = updater.get_targetinfo(path)
if info is None:
    sys.exit("no such target")
import json
print(json.dumps({"file": updater.download_target(info), "custom": info.custom}))
`;

/** Why python-tuf cannot be had here, or undefined once it is there. */
export async function pythonTufSkipReason(): Promise<string | undefined> {
  if ((await stat(join(VENV, 'ready')).catch(() => undefined)) !== undefined) return undefined;
  for (const [program, ...args] of [
    ['python3', '-m', 'venv', '--clear', VENV],
    [PYTHON, '-m', 'pip', 'install', '--quiet', ...PACKAGES],
    // An installation that was cut off is none.
    [PYTHON, '-c', 'import cryptography, tuf.ngclient; print("there")'],
  ] as const) {
    const ended = await runProgramFile(program, args).catch(() => undefined);
    const isLast = args[0] === '-c';
    if (ended?.status !== 0 || (isLast && ended.stdout === ''))
      return 'python-tuf cannot be installed';
  }
  await writeFile(join(VENV, 'ready'), '');
  return undefined;
}

/** Lets python-tuf find and download a target, from nothing but the first root. */
export async function pythonTuf(options: {
  readonly folder: string;
  readonly baseUrl: string;
  readonly root: string;
  readonly path: string;
}): Promise<{ readonly bytes: Buffer; readonly custom: unknown }> {
  const { folder, baseUrl, root, path } = options;
  await mkdir(folder, { recursive: true });
  const { status, stdout, stderr } = await runProgramFile(PYTHON, [
    ...['-c', SCRIPT, folder, baseUrl, root, path],
  ]);
  if (status !== 0) throw new Error(stderr);
  const { file, custom } = JSON.parse(stdout) as { file: string; custom: unknown };
  return { bytes: await readFile(file), custom };
}

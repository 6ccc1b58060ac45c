import { execFileSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** A release of Debian as apt sees it, apart from the machine's own: its updates included. */
export class Archive {
  readonly #suite: string;
  readonly #folder: string;
  readonly #options: readonly string[];

  private constructor(suite: string, folder: string) {
    this.#suite = suite;
    this.#folder = folder;
    const settings = {
      ...{ 'Dir::State::lists': 'lists', 'Dir::State::status': 'status', 'Dir::Cache': 'cache' },
      'Dir::Etc::sourcelist': 'sources.list',
      ...{ 'Dir::Etc::sourceparts': 'none', 'Dir::Etc::preferencesparts': 'none' },
    };
    this.#options = Object.entries(settings).flatMap(([name, file]) => [
      '-o',
      `${name}=${join(folder, file)}`,
    ]);
    // The folder may be closed to the user that apt downloads as.
    if (process.getuid?.() === 0)
      this.#options = [...this.#options, '-o', 'APT::Sandbox::User=root'];
  }

  /** Fetches the lists of packages into a folder, from where the machine's own apt fetches. */
  static async open(folder: string, suite: string): Promise<Archive> {
    for (const name of ['lists/partial', 'cache/archives/partial', 'none']) {
      await mkdir(join(folder, name), { recursive: true });
    }
    await writeFile(join(folder, 'status'), '');
    const [main, security] = mirrors();
    const source = (uri: string, of: string) => `deb [signed-by=${KEYRING}] ${uri} ${of} main\n`;
    const sources = [
      source(main, suite),
      source(main, `${suite}-updates`),
      source(security, `${suite}-security`),
    ];
    await writeFile(join(folder, 'sources.list'), sources.join(''));
    const archive = new Archive(suite, folder);
    archive.#run('apt-get', ['-qq', 'update']);
    return archive;
  }

  /** Names of packages that begin so. */
  names(prefix: string): string[] {
    return this.#run('apt-cache', ['pkgnames', prefix]).split('\n');
  }

  /** Unpacks a package into a folder. */
  unpack(name: string, root: string): void {
    this.#run('apt-get', ['download', '-qq', name]);
    execFileSync('sh', ['-c', 'dpkg-deb -x ./*.deb "$1" && rm ./*.deb', 'sh', root], {
      cwd: this.#folder,
    });
  }

  /** Writes a minimal system as a tar stream. */
  root(tar: string): void {
    const settings = join(this.#folder, 'apt.conf');
    execFileSync('sh', [
      '-c',
      'apt-config dump | grep -E "^Acquire::(Check-|http|https)" >"$1"; :',
      'sh',
      settings,
    ]);
    const args = ['--quiet', '--variant=minbase', `--aptopt=${settings}`, `--keyring=${KEYRING}`];
    execFileSync('mmdebstrap', [...args, this.#suite, tar, join(this.#folder, 'sources.list')], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }

  #run(program: string, args: readonly string[]): string {
    return execFileSync(program, [...this.#options, ...args], {
      ...{ cwd: this.#folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
    });
  }
}

/** The mirrors of Debian and of its security updates that the machine's own apt uses. */
function mirrors(): readonly [main: string, security: string] {
  const args = ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages'];
  const found = execFileSync('apt-get', args, { encoding: 'utf8' }).split('\n');
  const uri = (end: RegExp) => found.find((one) => end.test(one));
  const main = uri(/\/debian\/?$/);
  const security = uri(/\/debian-security\/?$/);
  if (main !== undefined && security !== undefined) return [main, security];
  throw new Error('no mirror of Debian and its security updates in the apt configuration');
}

import { type RunOptions, type RunResult, run } from '../system/run.ts';

/** Versions of Podman whose storage is known well enough to add layers to it, as [major, minor]. */
const OLDEST = [4, 3] as const;
const BEFORE = [6, 0] as const;

/** Names of the programs, where they are not those of the path. */
export type Programs = {
  readonly podman?: string | undefined;
  readonly skopeo?: string | undefined;
};

/** Podman and Skopeo at work on one storage. */
export class Podman {
  readonly #graphRoot: string;
  readonly #runRoot: string;
  readonly #programs: Programs;

  constructor(graphRoot: string, runRoot: string, programs: Programs) {
    this.#graphRoot = graphRoot;
    this.#runRoot = runRoot;
    this.#programs = programs;
  }

  /** Runs `podman` on this storage. Throws COMMAND_FAILED. */
  run(args: readonly string[], options?: RunOptions): Promise<RunResult> {
    const storage = ['--root', this.#graphRoot, '--runroot', this.#runRoot];
    const all = [...storage, '--storage-driver', 'btrfs', ...args];
    return run(this.#programs.podman ?? 'podman', all, options);
  }

  /** Podman's version, for example `4.3.1`. Throws COMMAND_FAILED. */
  async version(options?: RunOptions): Promise<string> {
    const { stdout } = await run(this.#programs.podman ?? 'podman', ['--version'], options);
    return /version (\S+)/.exec(stdout)?.[1] ?? stdout.trim();
  }

  /**
   * Copies the image in a folder of Skopeo's `dir:` transport into this storage, its digests
   * unchanged. Its signatures were judged before: the machine's own policy for images does not apply
   * again. Throws COMMAND_FAILED, NO_SPACE, CANCELLED.
   */
  async copyFromFolder(folder: string, name: string, options?: RunOptions): Promise<void> {
    const target = `containers-storage:[btrfs@${this.#graphRoot}+${this.#runRoot}]${name}`;
    const args = ['--insecure-policy', 'copy', '--quiet', '--preserve-digests'];
    const skopeo = this.#programs.skopeo ?? 'skopeo';
    await run(skopeo, [...args, `dir:${folder}`, target], options);
  }

  /** Removes an image, and the layers that no other one uses. Throws COMMAND_FAILED when it is in use. */
  async removeImage(id: string, names: readonly string[]): Promise<void> {
    // By its id an image is removed only while it has one name at most.
    const spare = names.slice(1);
    if (spare.length > 0) await this.run(['untag', id, ...spare]);
    try {
      await this.run(['rmi', id], {
        hint: 'Remove the containers that use the image first (podman ps --all).',
      });
    } catch (error) {
      if (spare.length > 0) await this.run(['tag', id, ...spare]);
      throw error;
    }
  }
}

/** Why a version of Podman is not known to work, or undefined when it is. */
export function unsupportedVersion(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const number = major * 1000 + minor;
  const known = number >= OLDEST[0] * 1000 + OLDEST[1] && number < BEFORE[0] * 1000 + BEFORE[1];
  if (known) return undefined;
  return `Podman ${version} is not among the versions known to work (${OLDEST.join('.')} to ${BEFORE[0] - 1}.x)`;
}

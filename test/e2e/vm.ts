import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { appendFileSync, existsSync } from 'node:fs';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const FIRMWARE = '/usr/share/OVMF/OVMF_CODE_4M.fd';
const FIRMWARE_VARIABLES = '/usr/share/OVMF/OVMF_VARS_4M.fd';

/** What the firmware says on the serial line when it starts a boot loader. */
const BOOT = /BdsDxe: starting /g;
/** A machine that has booted more often than this while something is waited for goes round in circles. */
const MOST_BOOTS = 8;

/** Why no virtual machine can run here; undefined when one can. */
export function vmMissing(): string | undefined {
  if (process.arch !== 'x64') return 'the virtual machine is x86-64';
  if (!existsSync(FIRMWARE)) return 'ovmf is not installed';
  if (!existsSync('/usr/bin/qemu-system-x86_64')) return 'qemu-system-x86 is not installed';
  return undefined;
}

/** What a command printed in the machine, and how it ended. */
export type VmResult = { readonly status: number; readonly output: string };

/**
 * A virtual machine under software emulation that boots a disk image by UEFI. Its first serial line
 * carries a root shell. From inside, 10.0.2.2 is this machine's loopback.
 */
export class VirtualMachine {
  /** Everything that the serial line said. */
  log = '';
  readonly #process: ChildProcess;
  readonly #serial: Promise<Socket>;
  readonly #folder: string;
  readonly #ended: Promise<void>;
  #changed: () => void = () => {};

  private constructor(process: ChildProcess, serial: Promise<Socket>, folder: string) {
    this.#process = process;
    this.#serial = serial;
    this.#folder = folder;
    this.#ended = new Promise((resolve) => process.once('exit', () => resolve()));
  }

  /** Starts a machine from a disk image (raw), which it changes. */
  static async start(disk: string, options: { memoryMiB?: number } = {}): Promise<VirtualMachine> {
    const folder = await mkdtemp(join(tmpdir(), 'vm-'));
    const variables = join(folder, 'vars.fd');
    await copyFile(FIRMWARE_VARIABLES, variables);
    const socket = join(folder, 'serial');
    const server = createServer();
    const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    const child = spawn(
      'qemu-system-x86_64',
      [
        // Time in the machine goes by what it has computed, 16 ns an instruction: on a loaded host the
        // firmware would else do nothing any more but serve its timer, and waits would run out.
        ...['-machine', 'q35', '-accel', 'tcg', '-icount', 'shift=4', '-cpu', 'max'],
        ...['-m', String(options.memoryMiB ?? 1024), '-display', 'none', '-nodefaults'],
        ...['-drive', `if=pflash,format=raw,readonly=on,file=${FIRMWARE}`],
        ...['-drive', `if=pflash,format=raw,file=${variables}`],
        ...['-drive', `file=${disk},format=raw,if=virtio,cache=unsafe`],
        ...['-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n,romfile='],
        ...['-device', 'virtio-rng-pci'],
        ...['-chardev', `socket,id=s,path=${socket}`, '-serial', 'chardev:s'],
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    const machine = new VirtualMachine(child, connected, folder);
    const serial = await connected;
    server.close();
    serial.on('data', (chunk: Buffer) => {
      machine.log += chunk.toString('latin1');
      if (process.env.SNAPGATE_VM_LOG) appendFileSync(process.env.SNAPGATE_VM_LOG, chunk);
      machine.#changed();
    });
    serial.on('error', () => {});
    return machine;
  }

  /**
   * Waits until the serial line says `pattern` after position `from` of the log; gives where it ended.
   * Throws, with the end of what it said, when the machine ends, boots too often, or takes too long.
   */
  async waitFor(
    pattern: RegExp,
    seconds: number,
    from = 0,
    mostBoots = MOST_BOOTS,
  ): Promise<number> {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      const match = pattern.exec(this.log.slice(from));
      if (match !== null) return from + match.index + match[0].length;
      const left = deadline - Date.now();
      const boots = this.log.slice(from).match(BOOT)?.length ?? 0;
      const isOver = this.#process.exitCode !== null || this.#process.signalCode !== null;
      if (left <= 0 || isOver || boots > mostBoots) {
        const late = isOver ? 'the machine ended' : `not within ${seconds} s`;
        const why = boots > mostBoots ? `not within ${mostBoots} boots` : late;
        throw new Error(`${pattern}: ${why}; the serial line ends:\n${this.log.slice(-3000)}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(left, 1000));
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Waits for the root shell of a version, which boots after position `from` of the log. */
  async waitForShell(version: string, seconds: number, from = 0): Promise<void> {
    await this.waitFor(new RegExp(`vm-shell-ready ${version}\\r?\\n`), seconds, from);
    await this.type('stty -echo; PS1=; PS2=');
    await this.run('true', 600);
  }

  /** Types a line into the root shell and does not wait for what comes of it. */
  async type(line: string): Promise<void> {
    const serial = await this.#serial;
    serial.write(`${line}\n`);
  }

  /** Runs a shell command in the machine's root shell. */
  async run(command: string, seconds = 600): Promise<VmResult> {
    const mark = randomBytes(6).toString('hex');
    const from = this.log.length;
    await this.type(`{ ${command}\n} 2>&1; echo "${mark.slice(0, 6)}""${mark.slice(6)} $?"`);
    const end = await this.waitFor(new RegExp(`${mark} (\\d+)\\r?\\n`), seconds, from);
    const text = this.log.slice(from, end).replaceAll('\r', '');
    const at = text.lastIndexOf(mark);
    const status = Number(/\d+/.exec(text.slice(at + mark.length))?.[0]);
    return { status, output: text.slice(0, at).trim() };
  }

  /** Cuts the power. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Shuts down in order, and cuts the power if that takes too long. */
  async stop(seconds = 600): Promise<void> {
    await this.type('systemctl poweroff');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), seconds * 1000);
    await this.#ended;
    clearTimeout(timer);
    await rm(this.#folder, { recursive: true, force: true });
  }
}

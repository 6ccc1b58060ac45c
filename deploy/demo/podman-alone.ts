import type { Line } from './line.ts';
import { Machine } from './machine.ts';
import type { Stage } from './stage.ts';

/** What one way of updating took. */
export type Cost = {
  /** Bytes on the line, both ways. */
  readonly line: number;
  /** Bytes written to the machine's disk. */
  readonly written: number;
  readonly seconds: number;
};

/** Measures what `act` costs on a machine. */
export async function costOf(
  machine: Machine,
  line: Line,
  act: () => Promise<unknown>,
): Promise<Cost> {
  const written = await machine.bytesWritten();
  const bytes = line.bytes();
  const started = performance.now();
  await act();
  const done = await machine.bytesWritten();
  const seconds = (performance.now() - started) / 1000;
  return { line: line.bytes() - bytes, written: done - written, seconds };
}

/** The same update on a machine of its own with nothing but `podman pull`: `from` first, then `to`. */
export async function podmanAlone(
  stage: Stage,
  line: Line,
  from: string,
  to: string,
  diskBytes: number,
): Promise<{ readonly first: Cost; readonly update: Cost }> {
  const machine = await Machine.build(stage, 'plain', diskBytes);
  const pull = (image: string) =>
    costOf(machine, line, () => machine.podman(['pull', '--quiet', '--tls-verify=false', image]));
  return { first: await pull(from), update: await pull(to) };
}

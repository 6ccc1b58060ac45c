import { describe, expect, it } from 'vitest';
import { MINUTES, type VmFleet, vmSkipReason, withVmFleet } from './vm-fleet.ts';

const skip = vmSkipReason();
let fleet: VmFleet;

/**
 * Commands that put a queueing discipline of the machine's kernel, as tc(8) writes it, before all that
 * its network device sends, and before all IP packets that the device receives.
 */
const shape = (queue: string) =>
  [
    'set -- /sys/class/net/en*; line=$(basename $1)',
    'modprobe ifb numifbs=1',
    'ip link set ifb0 up',
    `tc qdisc add dev $line root ${queue}`,
    `tc qdisc add dev ifb0 root ${queue}`,
    'tc qdisc add dev $line ingress',
    'tc filter add dev $line parent ffff: protocol ip matchall action mirred egress redirect dev ifb0',
  ].join(' && ');
const UNSHAPE = 'for at in "$line root" "$line ingress" "ifb0 root"; do tc qdisc del dev $at; done';

type Counts = Record<'packets' | 'dropped' | 'held', number>;
type Line = {
  readonly what: string;
  readonly queue: string;
  /** Bytes of the version that are in none before. */
  readonly fresh: number;
  /** Which count shows that the line was so. */
  readonly shows: keyof Counts;
};
const KIB = 1024;
const LINES: readonly Line[] = [
  {
    ...{ what: 'loses 30 % of all packets', queue: 'netem loss 30%' },
    ...{ fresh: 64 * KIB, shows: 'dropped' },
  },
  {
    ...{ what: 'takes 2 s each way', queue: 'netem delay 2000ms' },
    ...{ fresh: 64 * KIB, shows: 'packets' },
  },
  {
    ...{ what: 'has 64 kbit/s', queue: 'tbf rate 64kbit burst 4kb latency 10s' },
    ...{ fresh: 64 * KIB, shows: 'held' },
  },
  {
    ...{ what: 'loses 1 % of all packets', queue: 'netem loss 1%' },
    // So many that some are lost.
    ...{ fresh: 2048 * KIB, shows: 'dropped' },
  },
];

/** What the disciplines at both ends of the line counted since they were put there. */
async function counted(): Promise<Counts> {
  const total: Counts = { packets: 0, dropped: 0, held: 0 };
  for (const device of ['ifb0', '$line']) {
    const { output } = await fleet.vm.run(`tc -s qdisc show dev ${device} root`);
    const match = / (\d+) pkt \(dropped (\d+), overlimits (\d+) /.exec(output);
    total.packets += Number(match?.[1]);
    total.dropped += Number(match?.[2]);
    total.held += Number(match?.[3]);
  }
  return total;
}

describe("a machine whose kernel's own line is bad in both directions", () => {
  withVmFleet(skip, (made) => {
    fleet = made;
  });

  it('is installed and boots', { timeout: 60 * MINUTES }, async (context) => {
    context.skip(skip !== undefined, skip);
    await fleet.install();
    await fleet.boot('v1');
    await fleet.settled();
  });

  for (const [i, { what, queue, fresh, shows }] of LINES.entries()) {
    const version = `v${i + 2}`;
    it(`gets an update whole over a line that ${what}`, {
      timeout: 90 * MINUTES,
    }, async (context) => {
      context.skip(skip !== undefined, skip);
      await fleet.publish(version, [], fresh);
      const { status: shaped, output } = await fleet.vm.run(shape(queue));
      expect([shaped, output]).toEqual([0, '']);
      const { status, json } = await fleet.snaphost('update');
      expect(json).toMatchObject({ to: fleet.digests.get(version), method: 'delta' });
      expect(status).toBe(0);
      expect((await counted())[shows]).toBeGreaterThan(0);
      expect((await fleet.vm.run(UNSHAPE)).status).toBe(0);
    });
  }

  it('boots what came last', { timeout: 90 * MINUTES }, async (context) => {
    context.skip(skip !== undefined, skip);
    await fleet.rebootInto('v5');
    await fleet.settled();
    expect(await fleet.deployment('v5')).toMatchObject({ state: 'good' });
    await fleet.vm.stop();
  });
});

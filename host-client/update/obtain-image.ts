import type { LayerFormat } from '../../shared/delta/formats.ts';
import type { Digest } from '../../shared/digest.ts';
import { toSnapgateError } from '../../shared/errors.ts';
import type { Deployment } from '../deploy/deployment.ts';
import type { HeldImage } from '../storage/storage.ts';
import { buildImage } from './build-image.ts';
import type { ChainStep } from './chain.ts';
import {
  type Choice,
  type ChooseContext,
  chooseWay,
  fallbackReasonOf,
  findOffers,
} from './choose-way.ts';
import { encoderBytes, readableFormats, recompressingFormat, trustedFormats } from './encoders.ts';
import { expectedRate } from './estimate.ts';
import { announce, type Estimate, fetchWay } from './fetch-way.ts';
import { goChain, removePassed } from './go-chain.ts';
import { importImage } from './import-image.ts';
import { channelName, type Machine, type UpdateSource } from './machine.ts';
import { sortSources } from './sources.ts';
import type { Target } from './target.ts';
import { importWay } from './ways.ts';

/** What is asked of an update. */
export type UpdateOptions = {
  /** Stop when all is downloaded. */
  readonly downloadOnly?: boolean;
  /** Take the whole image, also where a delta would do. */
  readonly full?: boolean;
  /** Nobody asked: an image that has failed here is not tried again. */
  readonly automatic?: boolean;
  readonly signal?: AbortSignal;
};

/** An update under way: what belongs to one run. */
export type Run = {
  readonly machine: Machine;
  readonly options: UpdateOptions;
  /** `performance.now()` at its start. */
  readonly started: number;
  /** What boots next as long as nothing is switched. */
  readonly next: Deployment | undefined;
  /** Bytes of downloads and file content written so far. */
  bytesWritten: number;
  /** Images that a chain of deltas went through so far. */
  readonly passed: HeldImage[];
};

/** How the target came, and the image that it is in storage now. */
export type Obtained = {
  readonly method: 'delta' | 'full' | 'none';
  /** Undefined when only the download was asked for. */
  readonly image?: HeldImage;
  readonly fallbackReason?: string | undefined;
  /** What the way that was chosen was expected to take, before it was gone. */
  readonly estimate?: Estimate;
};

/** Gets the target into storage, or just its blobs onto the disk. */
export async function obtainImage(
  run: Run,
  source: UpdateSource,
  target: Target,
): Promise<Obtained> {
  const { machine, options } = run;
  const { storage } = machine;
  const held = await storage.listImages();
  const same = held.find(
    ({ config, manifest }) => config === target.config && manifest === target.manifest.digest,
  );
  if (same !== undefined) {
    await storage.tidy(options.signal);
    return { method: 'none', ...(options.downloadOnly ? {} : { image: same }) };
  }
  const support = await storage.checkSupport(options.signal);
  if (!support.supported) {
    machine.events.notice(`whole layers only: ${support.reason}`);
    const choice = { way: importWay(target), fallbackReason: support.reason };
    const { fallbackReason, estimate } = await fetched(run, source, target, choice);
    if (options.downloadOnly) return { method: 'full', fallbackReason, estimate };
    machine.events.step('register', channelName(machine.config));
    const image = await importImage(machine, target, options.signal);
    run.bytesWritten += choice.way.bytes;
    return { method: 'full', fallbackReason, image, estimate };
  }
  const obtained = await goBestWay(run, source, target, held);
  if (obtained.image !== undefined) await removePassed(run);
  return obtained;
}

/** Goes the best way, and once more without what turned out not to work. */
async function goBestWay(
  run: Run,
  source: UpdateSource,
  target: Target,
  held: readonly HeldImage[],
): Promise<Obtained> {
  const choice = await choose(run, source, target, held, { chains: !run.options.downloadOnly });
  let at: Failed = { target: target.manifest.digest, artifact: choice.way.artifact };
  const onStep = ({ target: { manifest }, delta: { artifact } }: ChainStep) => {
    at = { target: manifest.digest, artifact };
  };
  try {
    if (choice.chain === undefined) return await goWay(run, source, target, choice);
    const estimate = await announce(run, choice);
    return { ...(await goChain(run, source, choice.chain, onStep)), estimate };
  } catch (thrown) {
    const distrust = await distrustEncoders(run, thrown);
    const reason = distrust?.reason ?? chainReason(run, choice, thrown);
    const now = [...run.passed, ...held];
    const other = await choose(run, source, target, now, { chains: false });
    const obtained = await goWay(run, source, target, {
      way: other.way,
      fallbackReason: joined(reason, other.fallbackReason),
    });
    // Where a plain delta does not come out either, it was not for the encoders.
    const isSourceBad = other.way.method === 'delta' && obtained.method === 'full';
    if (isSourceBad) await run.machine.state.recordDistrust(undefined);
    else if (distrust !== undefined) await tellOfEncoders(run, source, at, distrust.format);
    return obtained;
  }
}

/** Fetches what a way needs and builds the image. Throws ENCODER_MISMATCH. */
async function goWay(
  run: Run,
  source: UpdateSource,
  target: Target,
  choice: Choice,
): Promise<Obtained> {
  const { way, fallbackReason, estimate } = await fetched(run, source, target, choice);
  const method = way.bytes === 0 ? 'none' : way.method;
  if (run.options.downloadOnly) return { method, fallbackReason, estimate };
  const { image, built } = await buildImage(run, source, target, way);
  const isWhole = built.fallbackReason !== undefined;
  return {
    method: isWhole ? 'full' : method,
    fallbackReason: joined(fallbackReason, built.fallbackReason),
    ...{ image, estimate },
  };
}

async function fetched(run: Run, source: UpdateSource, target: Target, choice: Choice) {
  const estimate = await announce(run, choice);
  return { ...(await fetchWay(run, source, target, choice)), estimate };
}

function joined(...reasons: readonly (string | undefined)[]): string | undefined {
  return reasons.filter(Boolean).join('; ') || undefined;
}

/** The delta that failed, and the image that it leads to. */
type Failed = { readonly target: Digest; readonly artifact: Digest | undefined };

/** Why a chain is given up. Throws what was thrown where that stops everything, or was no chain. */
function chainReason({ machine }: Run, { chain }: Choice, thrown: unknown): string {
  const reason = chain === undefined ? undefined : fallbackReasonOf(thrown);
  if (reason === undefined) throw thrown;
  machine.events.notice(`the chain of deltas is given up: ${reason}`);
  return reason;
}

/**
 * Encoders that went wrong once are not relied on again for a time. Answers with what was wrong;
 * undefined for anything else that was thrown.
 */
async function distrustEncoders(
  { machine }: Run,
  thrown: unknown,
): Promise<{ reason: string; format: string } | undefined> {
  const { code, message } = toSnapgateError(thrown);
  if (code !== 'ENCODER_MISMATCH') return undefined;
  const format = recompressingFormat(await formatsOf(machine));
  if (format === undefined) return undefined;
  await machine.state.recordDistrust({ format, time: Date.now() });
  machine.events.notice(`${message}; another way is taken`);
  return { reason: `${code}: ${message}`, format };
}

/** Tells the gateway, for other machines: this one goes on without. */
async function tellOfEncoders(
  { machine, options }: Run,
  { api }: UpdateSource,
  { target, artifact }: Failed,
  format: string,
): Promise<void> {
  if (api === undefined || artifact === undefined) return;
  const report = { target, artifact, format };
  await api.reportEncoders(report, options.signal).catch((failed: unknown) => {
    options.signal?.throwIfAborted();
    const { message } = toSnapgateError(failed);
    machine.events.notice(`the gateway does not hear of the encoders: ${message}`);
  });
}

/** The formats that can be applied here, most wanted first, without what went wrong lately. */
async function formatsOf({ config, state }: Machine): Promise<LayerFormat[]> {
  const formats = await readableFormats(encoderBytes(config.limits.encoderBytes));
  return trustedFormats(formats, await state.distrust());
}

/** What choosing a way goes by. */
export async function contextOf(
  machine: Machine,
  { reader, api, trust }: UpdateSource,
  signal: AbortSignal | undefined,
): Promise<ChooseContext> {
  const { config, storage, events, platform, state } = machine;
  return {
    ...{ config, source: reader, api, trust, storage, events, platform },
    formats: await formatsOf(machine),
    lineRate: expectedRate(await state.lineRate(), config.line.bytesPerSecond),
    ...(signal === undefined ? {} : { signal }),
  };
}

async function choose(
  run: Run,
  source: UpdateSource,
  target: Target,
  held: readonly HeldImage[],
  { chains }: { readonly chains: boolean },
): Promise<Choice> {
  const { machine, options, next } = run;
  machine.events.step('plan');
  const context = await contextOf(machine, source, options.signal);
  const sources = options.full ? [] : sortSources(held, machine.config, next?.config);
  const offers = await findOffers(context, target, sources);
  return await chooseWay(context, target, chains ? offers : { ...offers, chains: [] });
}

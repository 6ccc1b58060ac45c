import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { JobObserver } from '../jobs/delta-jobs.ts';

const SECONDS = [0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300];

/** One request that has ended. */
export type FinishedRequest = {
  readonly route: string;
  readonly method: string;
  readonly status: number;
  readonly seconds: number;
  /** Bytes on the client's connection, headers included. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
};

/** What `/metrics` shows. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #requests = this.#counter('requests_total', 'Requests answered', [
    ...['route', 'method', 'status'],
  ]);
  readonly #seconds = this.#histogram('request_seconds', 'From request to end of answer', 'route');
  readonly #sent = this.#counter('sent_bytes_total', 'Bytes sent to clients', ['route']);
  readonly #received = this.#counter('received_bytes_total', 'Bytes from clients', ['route']);
  readonly #upstream = this.#histogram(
    ...(['upstream_seconds', 'From request to headers of the registry', 'status'] as const),
  );
  readonly #jobs = this.#gauge('delta_jobs', 'Deltas that wait and that are made', 'state');
  readonly #finished = this.#counter('delta_jobs_finished_total', 'Deltas by how it ended', [
    'outcome',
  ]);
  readonly #jobSeconds = this.#histogram('delta_job_seconds', 'Time to make a delta', 'outcome');
  readonly #signatures = this.#counter('signatures_total', 'Signatures asked for, by outcome', [
    ...['kind', 'outcome'],
  ]);

  readonly #gate = this.#counter('gate_decisions_total', 'Decisions of the gate, by outcome', [
    ...['mode', 'outcome', 'cached'],
  ]);

  readonly #reports = this.#counter('update_reports_total', 'Updates that machines reported', [
    ...['result', 'method', 'error'],
  ]);
  readonly #reportedBytes = this.#counter(
    ...(['reported_bytes_total', 'Bytes that reported updates took', ['method']] as const),
  );
  readonly #reportedSeconds = this.#histogram(
    ...(['reported_seconds', 'Time that reported updates took', 'result'] as const),
  );
  readonly #fallbacks = this.#counter(
    ...([
      'reported_fallbacks_total',
      'Reported updates without the delta they could have',
      [],
    ] as const),
  );

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
  }

  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE;

  request(done: FinishedRequest): void {
    const { route, method, status, seconds, sentBytes, receivedBytes } = done;
    this.#requests.inc({ route, method, status: String(status) });
    this.#seconds.observe({ route }, seconds);
    this.#sent.inc({ route }, sentBytes);
    this.#received.inc({ route }, receivedBytes);
  }

  upstream(status: number, seconds: number): void {
    this.#upstream.observe({ status: String(status) }, seconds);
  }

  /** `kind` is `image` or `delta`; `outcome` is `signed`, `present` or an error code. */
  signature(kind: 'image' | 'delta', outcome: string): void {
    this.#signatures.inc({ kind, outcome });
  }

  /** `outcome` is `accepted`, `attachment` or an error code. */
  gate(mode: 'enforce' | 'audit', outcome: string, isCached: boolean): void {
    this.#gate.inc({ mode, outcome, cached: String(isCached) });
  }

  /** What a machine says of an update. */
  updateReport(report: {
    readonly result: string;
    readonly method?: string | undefined;
    readonly error?: string | undefined;
    readonly bytes: number;
    readonly seconds: number;
    readonly fellBack: boolean;
  }): void {
    const { result, method = 'none', error = 'none', bytes, seconds, fellBack } = report;
    this.#reports.inc({ result, method, error });
    this.#reportedBytes.inc({ method }, bytes);
    this.#reportedSeconds.observe({ result }, seconds);
    if (fellBack) this.#fallbacks.inc();
  }

  readonly jobs: JobObserver = {
    onQueue: (waiting, running) => {
      this.#jobs.set({ state: 'waiting' }, waiting);
      this.#jobs.set({ state: 'running' }, running);
    },
    onFinished: (_request, outcome, seconds) => {
      this.#finished.inc({ outcome });
      this.#jobSeconds.observe({ outcome }, seconds);
    },
  };

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #counter(name: string, help: string, labelNames: readonly string[]): Counter {
    const registers = [this.#registry];
    return new Counter({ name: `snapgate_${name}`, help, labelNames: [...labelNames], registers });
  }

  #gauge(name: string, help: string, label: string): Gauge {
    const registers = [this.#registry];
    return new Gauge({ name: `snapgate_${name}`, help, labelNames: [label], registers });
  }

  #histogram(name: string, help: string, label: string): Histogram {
    const registers = [this.#registry];
    const labelNames = [label];
    return new Histogram({
      ...{ name: `snapgate_${name}`, help, labelNames },
      ...{ buckets: SECONDS, registers },
    });
  }
}

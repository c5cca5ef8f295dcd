import { pulseOfThisStep } from './heartbeat.ts';

/**
 * The same activities, each with a heartbeat while it works. Without one Temporal would miss a
 * worker that was killed in a step of a few milliseconds only when the step's whole time is over.
 */
export function withPulse<Activities extends object>(activities: Activities): Activities {
  const beating = Object.entries(activities).map(([name, activity]) => {
    const step = activity as (argument: unknown) => Promise<unknown>;
    return [
      name,
      (argument: unknown) => pulseOfThisStep().during({ stage: name }, () => step(argument)),
    ];
  });
  return Object.fromEntries(beating) as Activities;
}

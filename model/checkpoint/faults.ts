/** Why a checkpoint cannot be used. Each class carries the facts it stands on and a hint for the operator. */

export type Facts = Record<string, string | number | boolean | string[]>;

export class CheckpointFault extends Error {
  readonly facts: Facts;
  readonly hint: string;

  constructor(message: string, facts: Facts, hint: string) {
    super(`${message}. ${hint}`);
    this.name = new.target.name;
    this.facts = facts;
    this.hint = hint;
  }
}

/** The files are not there, are cut short, or contradict themselves. */
export class UnreadableCheckpoint extends CheckpointFault {}

/** The files are sound, but ask for something this project does not do. */
export class UnsupportedCheckpoint extends CheckpointFault {}

/** A tensor the architecture needs, or the caller asked for, is not in the files. */
export class MissingTensor extends CheckpointFault {}

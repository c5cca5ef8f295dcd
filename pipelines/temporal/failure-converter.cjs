/**
 * The module that Temporal loads for failures. It turns their messages into payloads, so that the
 * codec encrypts them.
 */
const { DefaultFailureConverter } = require('@temporalio/common');

exports.failureConverter = new DefaultFailureConverter({ encodeCommonAttributes: true });

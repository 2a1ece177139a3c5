// Stands in the bundles for a library of which nothing is used.
module.exports = class NotUsed {
  constructor() {
    throw new Error('this part of a library is left out of the bundle');
  }
};

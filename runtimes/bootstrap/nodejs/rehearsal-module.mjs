// What a waiting process runs in place of a function that is an ES module (parking.cjs).
export const handler = async (event) => event;

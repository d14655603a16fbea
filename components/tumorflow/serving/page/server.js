// The server answers.

/** Fails with what the service says of a request that it refuses. */
export async function refuse(response) {
  let text = `The service answered ${response.status}.`;
  try {
    const problem = await response.json();
    const rules = (problem.refused ?? []).map((file) => `file ${file.file}: ${file.reason}`);
    text = [problem.detail, ...rules.slice(0, 5)].join(" ");
  } catch {
    // no problem details: a proxy's page, perhaps
  }
  throw Object.assign(new Error(text), { status: response.status });
}

/** Returns what the service says of its model. */
export async function readModel(headers) {
  const response = await fetch("version", { headers });
  if (!response.ok) await refuse(response);
  return (await response.json()).model;
}

/** Returns the service's answer on a study's files. */
export async function ask(files, headers, tell) {
  const form = new FormData();
  // names may be a patient's: they stay here
  for (const [position, file] of files.entries()) form.append("files", file, `${position + 1}`);
  tell(`Asking the service about ${files.length} file${files.length > 1 ? "s" : ""} …`);
  const response = await fetch("predict?explain=1&picture=1", { method: "POST", body: form, headers });
  if (!response.ok) await refuse(response);
  return response.json();
}

// Offers a file to the browser as soon as the server has made it.
watch("value", () => {
  if (!props.value) return;
  const link = document.createElement("a");
  Object.assign(link, { href: props.value.url, download: props.value.file });
  link.click();
});

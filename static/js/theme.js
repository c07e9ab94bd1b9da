// Runs before the first paint, so the page never flashes in the other theme.
(function () {
  const root = document.documentElement;
  for (const name of ["theme", "density"]) {
    const found = document.cookie.match(new RegExp("(?:^|; )ntd_" + name + "=(\\w+)"));
    if (found) root.dataset[name] = found[1];
  }
})();

"""Staff's pages. Machines, scaling and balancers belong to no account: for everyone else they are not there."""

"""The sample federation's real work: backtests of trading strategies over real daily prices (see README.md)."""

"""What a run says and shows of itself: before it trains, while it trains, and when it is done.

Nothing here draws from the random state of a run or changes what it learns.
"""

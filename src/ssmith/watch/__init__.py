"""Watch: is the cut still right, are rows, answers, quality and speed still what they were?"""
